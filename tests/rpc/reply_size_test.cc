// Responses that gRPC would not send are rejected before they are computed.
#include "server/codec/reply_size.h"

#include <gtest/gtest.h>

#include "server/base/limits.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

constexpr int64_t kLimit = 1'000'000;

class ReplySizeTest : public ServiceTest {
 protected:
  void SetUp() override {
    base::Limits limits;
    limits.max_message_bytes = kLimit;
    server = std::make_unique<TestServer>(limits);
  }
  static v1::Tensor Rows(int64_t rows) {
    v1::Tensor tensor;
    tensor.set_raw(std::string(static_cast<size_t>(4 * rows), '\0'));
    tensor.set_data_type(v1::DATA_TYPE_FLOAT32);
    return tensor;
  }
  static void ExpectRefused(const grpc::Status& status, const std::string& begins) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(status.error_message().substr(0, begins.size()), begins) << status.error_message();
    EXPECT_NE(status.error_message().find("more than the limit of 1000000 (max_message_bytes)"),
              std::string::npos)
        << status.error_message();
  }
};

TEST_F(ReplySizeTest, PredictCountsTensorsClassesAndTheirNames) {
  CreateModel("plain", R"({"inputSize":1,"layers":[{"units":2}]})");
  CreateModel("named", R"({"inputSize":1,"layers":[{"units":2}],"classNames":["no","yo"]})");
  CreateModel("wide", R"({"inputSize":1,"layers":[{"units":200}]})");
  struct Case {
    std::string model;
    std::vector<v1::PredictOutput> outputs;
    int64_t row_bytes;
  };
  for (const Case& test : {
           Case{"plain", {}, 2 * 4 + 1},  // probabilities and the class
           Case{"named", {}, 2 * 4 + 1 + 4}, Case{"named", {v1::PREDICT_OUTPUT_CLASSES}, 1 + 4},
           Case{"plain", {v1::PREDICT_OUTPUT_LOGITS, v1::PREDICT_OUTPUT_PROBABILITIES}, 16},
           Case{"wide", {}, 200 * 4 + 2},  // a class above 127 takes two bytes
       }) {
    v1::PredictRequest request;
    request.set_model("models/" + test.model);
    for (const auto output : test.outputs) request.add_outputs(output);
    const int64_t most = kLimit / test.row_bytes;
    v1::PredictResponse response;
    *request.mutable_inputs() = Rows(most);
    const grpc::Status fits = Call(&Stub::Predict, request, &response);
    EXPECT_TRUE(fits.ok()) << test.model << ": " << fits.error_message();
    *request.mutable_inputs() = Rows(most + 1);
    ExpectRefused(Call(&Stub::Predict, request, &response),
                  "inputs: the response would have " + std::to_string((most + 1) * test.row_bytes));
  }
}

TEST_F(ReplySizeTest, EvaluateCountsTheConfusionMatrixAndTheClasses) {
  v1::EvaluateRequest request;
  request.mutable_data()->mutable_inputs()->add_values(1);
  request.mutable_data()->mutable_labels()->add_values(0);
  v1::EvaluateResponse response;
  // 8 k² + 64 k bytes.
  for (const auto& [units, fits] : {std::pair(349, true), std::pair(350, false)}) {
    const std::string id = "k" + std::to_string(units);
    CreateModel(id, R"({"inputSize":1,"layers":[{"units":)" + std::to_string(units) + "}]}");
    request.set_model("models/" + id);
    request.set_summary_only(false);
    const grpc::Status status = Call(&Stub::Evaluate, request, &response);
    if (fits) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      EXPECT_LE(response.ByteSizeLong(), 8U * 349 * 349 + 64 * 349 + 200);
    } else {
      ExpectRefused(status, "model: the response would have 1002400 bytes");
      request.set_summary_only(true);
      EXPECT_TRUE(Call(&Stub::Evaluate, request, &response).ok());
    }
  }
}

TEST_F(ReplySizeTest, ParametersCountWhatSurroundsTheirTensorsAndTheStandardisation) {
  // 62,000 means and deviations alone are 992,000 bytes; the weights as many again.
  CreateModel("m", R"({"inputSize":62000,"layers":[{"units":2}],"inputStandardization":{}})");
  v1::GetParametersRequest request;
  request.set_model("models/m");
  request.set_encoding(v1::TENSOR_ENCODING_RAW);
  request.set_omit_optimizer_state(true);
  v1::GetParametersResponse response;
  ExpectRefused(Call(&Stub::GetParameters, request, &response), "model: the response would have");
}

TEST_F(ReplySizeTest, APageEndsWhereTheReplyIsFull) {
  std::string names = "\"" + std::string(255, 'a') + "\"";
  for (int i = 1; i < 1000; ++i) {
    const std::string number = std::to_string(1000 + i);
    names += ",\"" + number + std::string(251, 'a') + "\"";
  }
  const std::string spec =
      R"({"inputSize":1000,"layers":[{"units":1}],"loss":{"meanSquaredError":{}},"featureNames":[)" +
      names + "]}";
  constexpr int kModels = 9;  // of 258 KB each
  for (int i = 0; i < kModels; ++i) CreateModel("m" + std::to_string(i), spec);
  v1::ListModelsRequest request;
  v1::ListModelsResponse page;
  std::vector<std::string> found;
  int pages = 0;
  do {
    const grpc::Status status = Call(&Stub::ListModels, request, &page);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_LE(page.ByteSizeLong(), static_cast<size_t>(kLimit + codec::kEnvelopeBytes));
    ASSERT_GT(page.models_size(), 0);
    for (const auto& model : page.models()) found.push_back(model.name());
    request.set_page_token(page.next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(pages, 3);
  ASSERT_EQ(found.size(), static_cast<size_t>(kModels));
  for (int i = 0; i < kModels; ++i) {
    EXPECT_EQ(found[static_cast<size_t>(i)], "models/m" + std::to_string(i));
  }
}

TEST_F(ReplySizeTest, ASpecWhoseAnswerWouldNotFitIsRefused) {
  v1::CreateModelRequest request;
  auto* spec = request.mutable_spec();
  spec->mutable_loss()->mutable_mean_squared_error();
  spec->add_layers()->set_units(1);
  // The defaults of a layer count 64 bytes; the number of features takes two.
  spec->set_input_size(4000);
  for (int i = 0; spec->ByteSizeLong() <= static_cast<size_t>(kLimit - 64); ++i) {
    spec->add_feature_names(std::to_string(100'000 + i) + std::string(240, 'f'));
  }
  spec->set_input_size(spec->feature_names_size());
  v1::CreateModelResponse response;
  ExpectRefused(Call(&Stub::CreateModel, request, &response), "spec: the response would have");
  spec->mutable_feature_names()->RemoveLast();
  spec->set_input_size(spec->feature_names_size());
  const grpc::Status status = Call(&Stub::CreateModel, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace backprop::rpc
