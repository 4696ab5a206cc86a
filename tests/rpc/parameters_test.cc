#include <gtest/gtest.h>

#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

class ParametersTest : public ServiceTest {
 protected:
  v1::Parameters Get(const std::string& id, v1::TensorEncoding encoding) {
    v1::GetParametersRequest request;
    request.set_model("models/" + id);
    request.set_encoding(encoding);
    v1::GetParametersResponse response;
    EXPECT_TRUE(Call(&Stub::GetParameters, request, &response).ok());
    return response.parameters();
  }
  void Steps(const std::string& id, int count) {
    auto request = Json<v1::StepRequest>(R"({"batch":)" + std::string(kXorBatch) + "}");
    request.set_model("models/" + id);
    v1::StepResponse response;
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Call(&Stub::Step, request, &response).ok());
  }
  static constexpr char kAdam[] =
      R"({"inputSize":2,"layers":[{"units":8},{"units":2}],"optimizer":{"adam":{}}})";
};

TEST_F(ParametersTest, TensorsHaveNamesShapesAndState) {
  CreateModel("m", kAdam);
  Steps("m", 3);
  const auto parameters = Get("m", v1::TENSOR_ENCODING_VALUES);
  ASSERT_EQ(parameters.tensors_size(), 4);
  EXPECT_EQ(parameters.tensors(0).name(), "layers[0].weights");
  EXPECT_EQ(parameters.tensors(0).tensor().shape_size(), 2);
  EXPECT_EQ(parameters.tensors(1).tensor().shape_size(), 1);
  ASSERT_EQ(parameters.optimizer_state_size(), 8);
  EXPECT_EQ(parameters.optimizer_state(1).name(), "layers[0].weights/exp_avg_sq");
  EXPECT_EQ(parameters.step(), 3);
  EXPECT_EQ(parameters.optimizer_step(), 3);
}

// A copy created from the parameters trains exactly like the original, in both encodings.
TEST_F(ParametersTest, WhatWasReadContinuesExactly) {
  CreateModel("m", kAdam);
  Steps("m", 5);
  int copies = 0;
  for (auto encoding : {v1::TENSOR_ENCODING_VALUES, v1::TENSOR_ENCODING_RAW}) {
    const std::string id = "copy" + std::to_string(copies++);
    auto create = Json<v1::CreateModelRequest>(R"({"spec":)" + std::string(kAdam) + "}");
    create.set_model_id(id);
    create.mutable_spec()->set_seed(99);
    *create.mutable_initial_parameters() = Get("m", encoding);
    v1::CreateModelResponse created;
    ASSERT_TRUE(Call(&Stub::CreateModel, create, &created).ok());
    EXPECT_EQ(created.model().step(), 5);
    EXPECT_EQ(ParametersOf(id), ParametersOf("m"));
  }
  for (const char* id : {"m", "copy0", "copy1"}) Steps(id, 5);
  EXPECT_EQ(ParametersOf("copy0"), ParametersOf("m"));
  EXPECT_EQ(ParametersOf("copy1"), ParametersOf("m"));
}

TEST_F(ParametersTest, SomeTensorsMayBeSetAndTheOptimizerStartsAfresh) {
  CreateModel("m", kAdam);
  Steps("m", 5);
  const auto before = Get("m", v1::TENSOR_ENCODING_VALUES);
  auto request = Json<v1::SetParametersRequest>(
      R"({"model":"models/m","expectedStep":5,"requestId":"s","parameters":{"tensors":
          [{"name":"layers[1].bias","tensor":{"values":[0.25,-0.25]}}]}})");
  v1::SetParametersResponse response;
  ASSERT_TRUE(Call(&Stub::SetParameters, request, &response).ok());
  EXPECT_EQ(response.step(), 5);
  const auto after = Get("m", v1::TENSOR_ENCODING_VALUES);
  EXPECT_EQ(after.tensors(3).tensor().values(0), 0.25);
  EXPECT_EQ(after.tensors(0).SerializeAsString(), before.tensors(0).SerializeAsString());
  EXPECT_EQ(after.step(), 5);
  EXPECT_EQ(after.optimizer_step(), 0);
  for (const auto& slot : after.optimizer_state()) {
    for (double v : slot.tensor().values()) EXPECT_EQ(v, 0);
  }
  Steps("m", 1);
  ASSERT_TRUE(Call(&Stub::SetParameters, request, &response).ok()) << "a retry";
  EXPECT_EQ(response.step(), 5);
  EXPECT_EQ(GetModel("m").step(), 6);
}

TEST_F(ParametersTest, OptimizerStateMayBeLeftOut) {
  CreateModel("m", kAdam);
  v1::GetParametersResponse response;
  ASSERT_TRUE(
      Call(&Stub::GetParameters,
           Json<v1::GetParametersRequest>(R"({"model":"models/m","omitOptimizerState":true})"),
           &response)
          .ok());
  EXPECT_EQ(response.parameters().optimizer_state_size(), 0);
  EXPECT_EQ(response.parameters().tensors_size(), 4);
}

}  // namespace
}  // namespace backprop::rpc
