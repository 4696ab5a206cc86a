// Predict, Evaluate, GradCheck.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

class ReadingTest : public ServiceTest {
 protected:
  v1::PredictResponse Predict(const std::string& json) {
    v1::PredictResponse response;
    const auto status = Call(&Stub::Predict, Json<v1::PredictRequest>(json), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
};

TEST_F(ReadingTest, TheReplyMirrorsTheRequestsForm) {
  CreateModel("m", R"({"inputSize":2,"layers":[{"units":2}],"classNames":["no","yes"]})");
  const auto typed =
      Predict(R"({"model":"models/m","inputs":{"values":[1,2,3,4]},"outputs":[1,2,3]})");
  EXPECT_EQ(typed.logits().shape(0), 2);
  EXPECT_EQ(typed.logits().values_size(), 4);
  EXPECT_TRUE(typed.logits().raw().empty());
  EXPECT_EQ(typed.classes_size(), 2);
  EXPECT_EQ(typed.class_names(0), typed.classes(0) == 1 ? "yes" : "no");
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(typed.probabilities().values(2 * i) + typed.probabilities().values(2 * i + 1), 1,
                1e-6);
  }
  v1::PredictRequest request;
  request.set_model("models/m");
  const float raw[] = {1, 2, 3, 4};
  request.mutable_inputs()->set_raw(raw, sizeof(raw));
  request.mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  request.add_outputs(v1::PREDICT_OUTPUT_LOGITS);
  v1::PredictResponse response;
  ASSERT_TRUE(Call(&Stub::Predict, request, &response).ok());
  EXPECT_EQ(response.logits().values_size(), 0);
  ASSERT_EQ(response.logits().raw().size(), 16U);
  EXPECT_FALSE(response.has_probabilities());
  for (int i = 0; i < 4; ++i) {
    float value = 0;
    std::memcpy(&value, response.logits().raw().data() + 4 * i, 4);
    EXPECT_EQ(static_cast<double>(value), typed.logits().values(i));
  }
}

TEST_F(ReadingTest, OneRowOrMany) {
  CreateModel("m", R"({"inputSize":2,"layers":[{"units":3}]})");
  const auto one =
      Predict(R"({"model":"models/m","inputs":{"shape":[2],"values":[1,2]},"outputs":[1]})");
  const auto many = Predict(R"({"model":"models/m","inputs":{"values":[9,9,1,2]},"outputs":[1]})");
  EXPECT_EQ(one.logits().shape(0), 1);
  for (int j = 0; j < 3; ++j) EXPECT_EQ(one.logits().values(j), many.logits().values(3 + j));
}

TEST_F(ReadingTest, DefaultsFollowTheLoss) {
  CreateModel("line", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}}})");
  CreateModel("binary",
              R"({"inputSize":1,"layers":[{"units":1}],"loss":{"binaryCrossEntropy":{}}})");
  CreateModel("multi",
              R"({"inputSize":1,"layers":[{"units":3}],"loss":{"binaryCrossEntropy":{}}})");
  const auto line = Predict(R"({"model":"models/line","inputs":{"values":[1]}})");
  EXPECT_TRUE(line.has_logits());
  EXPECT_FALSE(line.has_probabilities());
  const auto binary = Predict(R"({"model":"models/binary","inputs":{"values":[1,-1]}})");
  EXPECT_EQ(binary.probabilities().values_size(), 2);
  ASSERT_EQ(binary.classes_size(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(binary.classes(i), binary.probabilities().values(i) > 0.5 ? 1 : 0);
  }
  const auto multi = Predict(R"({"model":"models/multi","inputs":{"values":[1]}})");
  EXPECT_EQ(multi.probabilities().values_size(), 3);
  EXPECT_EQ(multi.classes_size(), 0);
}

// Layers of at most 32 units: with wider ones the last bits may depend on the number of rows in a
// request (docs/numerics.md).
TEST_F(ReadingTest, ManyRowsInPiecesEqualRowsAlone) {
  CreateModel("m", R"({"inputSize":1,"layers":[{"units":32},{"units":32},{"units":2}]})");
  v1::PredictRequest request;
  request.set_model("models/m");
  std::vector<float> inputs(5000);
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = static_cast<float>(i) / 1000;
  request.mutable_inputs()->set_raw(inputs.data(), inputs.size() * sizeof(float));
  request.mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  request.add_outputs(v1::PREDICT_OUTPUT_LOGITS);
  request.add_outputs(v1::PREDICT_OUTPUT_CLASSES);
  v1::PredictResponse all, one;
  ASSERT_TRUE(Call(&Stub::Predict, request, &all).ok());
  EXPECT_EQ(all.classes_size(), 5000);
  for (size_t i : {0U, 1023U, 1024U, 4999U}) {
    request.mutable_inputs()->set_raw(&inputs[i], sizeof(float));
    ASSERT_TRUE(Call(&Stub::Predict, request, &one).ok());
    EXPECT_EQ(one.logits().raw(), all.logits().raw().substr(8 * i, 8)) << i;
  }
}

TEST_F(ReadingTest, EvaluateEqualsWhatAStepSaysOfTheSameRows) {
  CreateModel("m", kXorSpec);
  v1::EvaluateResponse evaluated;
  ASSERT_TRUE(Call(&Stub::Evaluate,
                   Json<v1::EvaluateRequest>(R"({"model":"models/m","data":)" +
                                             std::string(kXorBatch) + "}"),
                   &evaluated)
                  .ok());
  v1::StepResponse step;
  ASSERT_TRUE(
      Call(&Stub::Step,
           Json<v1::StepRequest>(R"({"model":"models/m","batch":)" + std::string(kXorBatch) + "}"),
           &step)
          .ok());
  EXPECT_EQ(evaluated.metrics().SerializeAsString(), step.metrics().SerializeAsString());
  EXPECT_EQ(evaluated.step(), 0);
  EXPECT_EQ(step.step(), 1);
}

TEST_F(ReadingTest, GradCheckPassesAndSaysWhatItDid) {
  CreateModel(
      "m",
      R"({"inputSize":2,"layers":[{"units":300,"activation":"ACTIVATION_TANH"},{"units":2}]})");
  const std::string before = ParametersOf("m");
  v1::GradCheckResponse response;
  ASSERT_TRUE(Call(&Stub::GradCheck,
                   Json<v1::GradCheckRequest>(R"({"model":"models/m","batch":)" +
                                              std::string(kXorBatch) + "}"),
                   &response)
                  .ok());
  const auto& result = response.result();
  EXPECT_TRUE(result.passed());
  EXPECT_TRUE(result.sampled());
  ASSERT_EQ(result.tensors_size(), 4);
  EXPECT_EQ(result.tensors(0).name(), "layers[0].weights");
  EXPECT_EQ(result.tensors(0).checked(), 256);
  EXPECT_EQ(result.tensors(0).not_sampled(), 600 - 256);
  EXPECT_EQ(result.tensors(0).worst_index_size(), 2);
  EXPECT_EQ(result.tensors(1).worst_index_size(), 1);
  EXPECT_EQ(result.verdict(), v1::GRAD_CHECK_VERDICT_PASSED);
  EXPECT_EQ(result.explanation(), "");
  EXPECT_LT(result.tensors(0).kernel_max_bound_ratio(), 1);
  EXPECT_LT(result.max_relative_error(), 1e-4);
  EXPECT_EQ(ParametersOf("m"), before);
}

// Every activation with every loss, in a realistic state: after steps with dropout, weights,
// smoothing and standardised inputs, in both precisions.
TEST_F(ReadingTest, GradCheckProvesEveryActivationWithEveryLoss) {
  const char* const kActivationNames[] = {"IDENTITY", "RELU", "TANH", "SIGMOID", "LEAKY_RELU",
                                          "ELU",      "GELU", "SILU", "SOFTPLUS"};
  const std::pair<const char*, const char*> kLossesWithRows[] = {
      {R"({"softmaxCrossEntropy":{"labelSmoothing":0.1,"classWeights":[1,2,0.5]}})",
       R"("labels":{"values":[0,1,2,1]})"},
      {R"({"softmaxCrossEntropy":{}})",
       R"("targets":{"values":[0.2,0.3,0.5,1,0,0,0,0.5,0.5,0.1,0.8,0.1]})"},
      {R"({"binaryCrossEntropy":{"posWeight":[1,2,3]}})",
       R"("targets":{"values":[0,1,1,0,0,1,1,1,0.5,0,0,0]})"},
      {R"({"meanSquaredError":{}})", R"("targets":{"values":[0,1,1,2,0,1,1,1,0.5,-1,0,0]})"},
      {R"({"meanAbsoluteError":{}})", R"("targets":{"values":[0,1,1,2,0,1,1,1,0.5,-1,0,0]})"},
      {R"({"huber":{"delta":0.5}})", R"("targets":{"values":[0,1,1,2,0,1,1,1,0.5,-1,0,0]})"}};
  int number = 0;
  for (const char* activation : kActivationNames) {
    for (const auto& [loss, wanted] : kLossesWithRows) {
      for (const char* type : {"FLOAT32", "FLOAT64"}) {
        SCOPED_TRACE(testing::Message() << activation << " " << loss << " " << type);
        const std::string id = "m" + std::to_string(++number);
        CreateModel(id, R"({"inputSize":2,"layers":[{"units":4,"activation":"ACTIVATION_)" +
                            std::string(activation) +
                            R"(","dropout":0.2},{"units":3}],"inputStandardization":
                             {"mean":[0.5,0.4],"std":[0.5,0.6]},"dataType":"DATA_TYPE_)" +
                            type + R"(","loss":)" + loss + "}");
        const std::string rows = R"({"model":"models/)" + id +
                                 R"(","batch":{"inputs":{"values":[0.1,0.2,0.3,1,1,0,0.9,1]},
                                     "sampleWeights":{"values":[1,2,0,0.5]},)" +
                                 wanted + "}}";
        v1::StepResponse step;
        for (int i = 0; i < 3; ++i) {
          ASSERT_TRUE(Call(&Stub::Step, Json<v1::StepRequest>(rows), &step).ok());
        }
        v1::GradCheckResponse response;
        ASSERT_TRUE(Call(&Stub::GradCheck, Json<v1::GradCheckRequest>(rows), &response).ok());
        EXPECT_TRUE(response.result().passed()) << response.result().DebugString();
        EXPECT_EQ(response.step(), 3);
        for (const auto& tensor : response.result().tensors()) {
          EXPECT_EQ(tensor.not_sampled(), 0);
          EXPECT_GT(tensor.checked(), 0);
        }
      }
    }
  }
}

TEST_F(ReadingTest, EvaluateSaysEverythingOrTheSummaryAlone) {
  CreateModel("m", R"({"inputSize":1,"layers":[{"units":3}],"classNames":["a","b","c"]})");
  auto request = Json<v1::EvaluateRequest>(
      R"({"model":"models/m","topK":1,"data":{"inputs":{"values":[1,2,3,4]},
          "labels":{"values":[0,1,2,2]},"sampleWeights":{"values":[1,1,0.5,1]}}})");
  v1::EvaluateResponse response;
  ASSERT_TRUE(Call(&Stub::Evaluate, request, &response).ok());
  const auto& metrics = response.classification();
  EXPECT_EQ(metrics.confusion_matrix_size(), 9);
  EXPECT_EQ(metrics.classes(2).class_name(), "c");
  EXPECT_EQ(metrics.classes(2).support(), 1.5);
  EXPECT_EQ(metrics.top_k(), 1);
  EXPECT_EQ(metrics.accuracy(), response.metrics().accuracy());
  EXPECT_FALSE(response.has_regression());
  request.set_summary_only(true);
  v1::EvaluateResponse summary;
  ASSERT_TRUE(Call(&Stub::Evaluate, request, &summary).ok());
  EXPECT_EQ(summary.metrics().SerializeAsString(), response.metrics().SerializeAsString());
  EXPECT_FALSE(summary.has_classification());

  CreateModel("line",
              R"({"inputSize":1,"layers":[{"units":1,"biasInitializer":"INITIALIZER_ZEROS"}],
                          "loss":{"meanAbsoluteError":{}}})");
  ASSERT_TRUE(Call(&Stub::Evaluate, Json<v1::EvaluateRequest>(R"({"model":"models/line","data":
                       {"inputs":{"values":[0,0]},"targets":{"values":[1,3]}}})"),
                   &response)
                  .ok());
  EXPECT_EQ(response.regression().mean_absolute_error(), 2);
  EXPECT_EQ(response.regression().mean_squared_error(), 5);
  EXPECT_FALSE(response.has_classification());
}

// A check that would take minutes ends soon after its caller has cancelled, and leaves nothing.
TEST_F(ReadingTest, ALongGradCheckEndsWithItsDeadline) {
  CreateModel("m", R"({"inputSize":300,"layers":[{"units":300},{"units":300},{"units":10}]})");
  v1::GradCheckRequest request;
  request.set_model("models/m");
  request.mutable_config()->set_max_entries_per_tensor(90'000);
  std::vector<float> inputs(300 * 256, 0.5F);
  request.mutable_batch()->mutable_inputs()->set_raw(inputs.data(), inputs.size() * sizeof(float));
  request.mutable_batch()->mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  for (int i = 0; i < 256; ++i) request.mutable_batch()->mutable_labels()->add_values(i % 10);
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::GradCheckResponse response;
  EXPECT_EQ(server->stub->GradCheck(&call, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(server->context.calls.WaitForNone(absl::Seconds(20)));
}

// While all threads train, predictions of other models and of the model in training are answered.
TEST_F(ReadingTest, PredictionsGoOnWhileEverythingTrains) {
  std::vector<std::unique_ptr<grpc::ClientContext>> calls;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::TrainResponse>>> readers;
  for (int i = 0; i < 4; ++i) {
    const std::string id = "m" + std::to_string(i);
    CreateModel(id, kXorSpec);
    calls.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(server->stub->Train(
        calls.back().get(), Json<v1::TrainRequest>(R"({"model":"models/)" + id + R"(","data":)" +
                                                   std::string(kXorBatch) +
                                                   R"(,"config":{"iterations":1000000000000}})")));
    v1::TrainResponse started;
    ASSERT_TRUE(readers.back()->Read(&started));
  }
  CreateModel("idle", kXorSpec);
  int64_t last_step = -1;
  for (int i = 0; i < 100; ++i) {
    Predict(R"({"model":"models/idle","inputs":{"values":[1,1]}})");
    const auto live = Predict(R"({"model":"models/m0","inputs":{"values":[1,1]}})");
    EXPECT_GE(live.step(), last_step) << "never goes backward";
    last_step = live.step();
  }
  EXPECT_GT(last_step, 0);
  for (auto& call : calls) call->TryCancel();
  for (auto& reader : readers) {
    v1::TrainResponse response;
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

}  // namespace
}  // namespace backprop::rpc
