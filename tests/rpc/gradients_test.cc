// ComputeGradients and ApplyGradients: the two halves of a step.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

constexpr char kSpec[] =
    R"({"inputSize":2,"layers":[{"units":5,"activation":"ACTIVATION_TANH"},{"units":2}],
        "loss":{"softmaxCrossEntropy":{"classWeights":[1,3]}},"dataType":"DATA_TYPE_FLOAT64",
        "optimizer":{"sgd":{"learningRate":0.3,"momentum":0.9,"weightDecay":0.01},"l1":0.01,
                     "clipNorm":0.5}})";

class GradientsTest : public ServiceTest {
 protected:
  v1::ComputeGradientsResponse Compute(const std::string& id, const std::string& batch,
                                       v1::TensorEncoding encoding = v1::TENSOR_ENCODING_RAW) {
    auto request = Json<v1::ComputeGradientsRequest>(R"({"batch":)" + batch + "}");
    request.set_model("models/" + id);
    request.set_encoding(encoding);
    v1::ComputeGradientsResponse response;
    const auto status = Call(&Stub::ComputeGradients, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  grpc::Status Apply(const v1::ApplyGradientsRequest& request,
                     v1::ApplyGradientsResponse* response) {
    return Call(&Stub::ApplyGradients, request, response);
  }
  static v1::ApplyGradientsRequest RequestFor(const std::string& id,
                                              const v1::ComputeGradientsResponse& computed) {
    v1::ApplyGradientsRequest request;
    request.set_model("models/" + id);
    *request.mutable_gradients() = computed.gradients();
    return request;
  }
};

TEST_F(GradientsTest, TheTwoHalvesMakeAStepBitForBit) {
  CreateModel("whole", kSpec);
  CreateModel("halves", kSpec);
  auto step =
      Json<v1::StepRequest>(R"({"model":"models/whole","batch":)" + std::string(kXorBatch) + "}");
  for (int i = 1; i <= 20; ++i) {
    v1::StepResponse stepped;
    ASSERT_TRUE(Call(&Stub::Step, step, &stepped).ok());
    const std::string before = ParametersOf("halves");
    const auto computed = Compute("halves", kXorBatch);
    EXPECT_EQ(ParametersOf("halves"), before) << "computing changes nothing";
    EXPECT_EQ(computed.step(), i - 1);
    EXPECT_EQ(computed.metrics().SerializeAsString(), stepped.metrics().SerializeAsString());
    v1::ApplyGradientsResponse applied;
    ASSERT_TRUE(Apply(RequestFor("halves", computed), &applied).ok());
    EXPECT_EQ(applied.step(), i);
    EXPECT_EQ(applied.gradient_norm(), stepped.gradient_norm());
    EXPECT_EQ(applied.learning_rate(), 0.3);
    EXPECT_EQ(ParametersOf("halves"), ParametersOf("whole"));
  }
}

// Two replicas that average the gradients of two halves of the data equal one model on all data,
// within rounding. The halves differ in size and in the weight of their classes.
TEST_F(GradientsTest, ReplicasThatAverageEqualOneModelOnTheJoinedBatch) {
  for (const char* id : {"one", "left", "right"}) CreateModel(id, kSpec);
  const char kAll[] =
      R"({"inputs":{"values":[0,0,0,1,1,0,1,1,0.5,0.1]},"labels":{"values":[0,1,1,0,1]}})";
  const char kLeft[] = R"({"inputs":{"values":[0,0,0,1]},"labels":{"values":[0,1]}})";
  const char kRight[] = R"({"inputs":{"values":[1,0,1,1,0.5,0.1]},"labels":{"values":[1,0,1]}})";
  for (int i = 0; i < 50; ++i) {
    v1::ApplyGradientsResponse applied;
    ASSERT_TRUE(Apply(RequestFor("one", Compute("one", kAll)), &applied).ok());
    auto left = Compute("left", kLeft, v1::TENSOR_ENCODING_VALUES);
    const auto right = Compute("right", kRight, v1::TENSOR_ENCODING_VALUES);
    EXPECT_EQ(left.weight(), 1 + 3);
    EXPECT_EQ(right.weight(), 3 + 1 + 3);
    for (int t = 0; t < left.gradients_size(); ++t) {
      auto* mine = left.mutable_gradients(t)->mutable_tensor()->mutable_values();
      for (int e = 0; e < mine->size(); ++e) {
        (*mine)[e] =
            ((*mine)[e] * left.weight() + right.gradients(t).tensor().values(e) * right.weight()) /
            (left.weight() + right.weight());
      }
    }
    ASSERT_TRUE(Apply(RequestFor("left", left), &applied).ok());
    ASSERT_TRUE(Apply(RequestFor("right", left), &applied).ok());
  }
  EXPECT_EQ(ParametersOf("left"), ParametersOf("right"));
  v1::GetParametersRequest get;
  v1::GetParametersResponse one, left;
  get.set_model("models/one");
  ASSERT_TRUE(Call(&Stub::GetParameters, get, &one).ok());
  get.set_model("models/left");
  ASSERT_TRUE(Call(&Stub::GetParameters, get, &left).ok());
  for (int t = 0; t < one.parameters().tensors_size(); ++t) {
    const auto& a = one.parameters().tensors(t).tensor();
    const auto& b = left.parameters().tensors(t).tensor();
    for (int e = 0; e < a.values_size(); ++e) EXPECT_NEAR(a.values(e), b.values(e), 1e-12);
  }
}

TEST_F(GradientsTest, ARetriedApplyAppliesOnceAndExpectsItsStep) {
  CreateModel("m", kSpec);
  auto request = RequestFor("m", Compute("m", kXorBatch));
  request.set_request_id("once");
  request.set_expected_step(0);
  v1::ApplyGradientsResponse first, retry;
  ASSERT_TRUE(Apply(request, &first).ok());
  const std::string parameters = ParametersOf("m");
  ASSERT_TRUE(Apply(request, &retry).ok());
  EXPECT_EQ(retry.SerializeAsString(), first.SerializeAsString());
  EXPECT_EQ(ParametersOf("m"), parameters);
  request.set_request_id("twice");
  const auto status = Apply(request, &retry);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(Info(status).reason(), "STEP_MISMATCH");
}

TEST_F(GradientsTest, GradientsThatWouldNotLeaveFiniteParametersAreRefused) {
  CreateModel("m", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}},
                       "optimizer":{"sgd":{"learningRate":10}}})");
  const std::string before = ParametersOf("m");
  auto request = Json<v1::ApplyGradientsRequest>(
      R"({"model":"models/m","gradients":[
          {"name":"layers[0].weights","tensor":{"values":[3e38]}},
          {"name":"layers[0].bias","tensor":{"values":[0]}}]})");
  v1::ApplyGradientsResponse response;
  const auto status = Apply(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Info(status).reason(), "NOT_FINITE");
  EXPECT_EQ(ParametersOf("m"), before);
}

TEST_F(GradientsTest, TheReplyMirrorsTheInputsForm) {
  CreateModel("m", kSpec);
  const auto mirrored = Compute("m", kXorBatch, v1::TENSOR_ENCODING_UNSPECIFIED);
  EXPECT_EQ(mirrored.gradients(0).name(), "layers[0].weights");
  EXPECT_EQ(mirrored.gradients(0).tensor().values_size(), 10);
  EXPECT_EQ(mirrored.gradients(3).tensor().shape_size(), 1) << "a bias is a vector";
  EXPECT_TRUE(Compute("m", kXorBatch).gradients(0).tensor().values().empty());
}

}  // namespace
}  // namespace backprop::rpc
