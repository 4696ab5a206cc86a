// The C++ client against a real server on a real socket.
#include "backprop/client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backprop/datasets.h"
#include "client/backprop/convert.h"
#include "tests/client/backprop/cutting_proxy.h"
#include "tests/rpc/test_server.h"

namespace backprop {
namespace {

ModelSpec XorSpec() {
  ModelSpec spec;
  spec.input_size = 2;
  spec.layers = {{8}, {2}};
  spec.optimizer = Sgd{.learning_rate = 0.1};
  return spec;
}

class ClientTest : public testing::Test {
 protected:
  rpc::TestServer server;
  Client client{server.address};
  Batch data = *MakeDataset("xor");
  static constexpr int64_t kForever = int64_t{1} << 50;
};

TEST_F(ClientTest, ModelsLiveTheirLife) {
  ModelSpec spec;
  spec.input_size = 3;
  spec.layers = {{5, Activation::kTanh, Initializer::kXavierNormal}, {4}, {2}};
  spec.optimizer = Adam{0.01, 0.8, 0.99, 1e-7, 0.001};
  spec.seed = 9;
  spec.data_type = DataType::kFloat64;
  spec.class_names = {"no", "yes"};
  spec.feature_names = {"a", "b", "c"};
  const auto created = client.CreateModel(
      spec, {.model_id = "m", .labels = {{"tenant", "x"}}, .ttl = std::chrono::seconds(90)});
  ASSERT_TRUE(created.ok()) << created.status().ToString();
  EXPECT_EQ(created->name, "models/m");
  EXPECT_EQ(created->parameter_count, 4 * 5 + 6 * 4 + 5 * 2);
  EXPECT_EQ(created->ttl, std::chrono::seconds(90));
  for (const char* name : {"m", "models/m"}) {
    const auto got = client.GetModel(name);
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->spec.layers[0].activation, Activation::kTanh);
    EXPECT_EQ(got->spec.layers[0].initializer, Initializer::kXavierNormal);
    EXPECT_EQ(got->spec.layers[1].activation, Activation::kRelu);
    EXPECT_EQ(std::get<Adam>(got->spec.optimizer).beta1, 0.8);
    EXPECT_EQ(got->spec.seed, 9U);
    EXPECT_EQ(got->spec.data_type, DataType::kFloat64);
    EXPECT_EQ(got->spec.class_names, spec.class_names);
    EXPECT_EQ(got->labels.at("tenant"), "x");
  }
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "other"}).ok());
  const auto all = client.ListModels();
  ASSERT_EQ(all->models.size(), 2U);
  const auto page = client.ListModels({.page_size = 1});
  EXPECT_EQ(page->models[0].name, "models/m");
  EXPECT_EQ(client.ListModels({.page_token = page->next_page_token})->models[0].name,
            "models/other");
  EXPECT_EQ(client.ListModels({.labels = {{"tenant", "x"}}})->models.size(), 1U);
  EXPECT_TRUE(client.DeleteModel("m").ok());
  const Status gone = client.DeleteModel("m");
  EXPECT_EQ(gone.code, StatusCode::kNotFound);
  EXPECT_EQ(gone.reason, "MODEL_NOT_FOUND");
  EXPECT_EQ(gone.metadata.at("model"), "models/m");
}

TEST_F(ClientTest, ErrorsNameTheirFields) {
  ModelSpec spec = XorSpec();
  spec.layers[0].units = 0;
  const auto created = client.CreateModel(spec);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.status().ToString(),
            "INVALID_ARGUMENT: spec.layers[0].units: must be at least 1, got 0");
  ASSERT_EQ(created.status().field_violations.size(), 1U);
  EXPECT_EQ(created.status().field_violations[0].field, "spec.layers[0].units");
  EXPECT_EQ(created.status().field_violations[0].description, "must be at least 1, got 0");
}

TEST_F(ClientTest, ARunSaysWhatItUsesAndContinuesAnEpoch) {
  ModelSpec spec = XorSpec();
  spec.layers[0].bias_initializer = Initializer::kConstant;
  spec.layers[0].initial_bias = 0.5;
  const auto model = client.CreateModel(spec, {.model_id = "m"});
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_EQ(model->spec.layers[0].initializer, Initializer::kPytorchLinear);
  EXPECT_EQ(model->spec.layers[0].bias_initializer, Initializer::kConstant);
  EXPECT_EQ(model->spec.layers[0].initial_bias, 0.5);
  EXPECT_EQ(model->spec.layers[1].bias_initializer, Initializer::kPytorchLinear);
  RunStarted started;
  const auto keep = [&](const TrainingEvent& event) {
    if (const auto* body = std::get_if<RunStarted>(&event.body)) started = *body;
    return true;
  };
  TrainOptions options;
  options.iterations = 5;
  options.batch_size = 64;
  options.validation_split = 0.2;
  options.stratify = false;
  ASSERT_TRUE(client.Train("m", data, options, keep).ok());
  EXPECT_EQ(started.batch_size, 64);
  EXPECT_EQ(started.validation_rows, 40);
  options.iterations = 1;
  options.continue_epoch = true;
  ASSERT_TRUE(client.Train("m", data, options, keep).ok());
  EXPECT_EQ(started.resumed_batches, 2) << "three batches of 160 rows are an epoch";
  options.redraw_validation_split = true;
  options.batch_size = 1000;
  ASSERT_TRUE(client.Train("m", data, options, keep).ok());
  EXPECT_EQ(started.resumed_batches, 0);
  EXPECT_EQ(started.batch_size, 160);
}

TEST_F(ClientTest, TheMainJob) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "xor"}).ok());
  std::vector<TrainingEvent> events;
  const auto summary =
      client.Train("xor", data, {.iterations = 3000, .report_interval = std::chrono::hours(1)},
                   [&](const TrainingEvent& event) {
                     events.push_back(event);
                     return true;
                   });
  ASSERT_TRUE(summary.ok()) << summary.status().ToString();
  EXPECT_EQ(summary->stop_reason, StopReason::kCompleted);
  EXPECT_GE(*summary->metrics->accuracy, 0.90);
  EXPECT_EQ(events.size(), 103U);
  EXPECT_EQ(std::get<RunStarted>(events[0].body).rows, 200);
  EXPECT_EQ(std::get<Progress>(events[1].body).iteration, 1);

  const auto step = client.Step("xor", data);
  EXPECT_EQ(step->step, 3001);
  EXPECT_EQ(client.Step("xor", data, 3000).status().code, StatusCode::kAborted);

  const auto prediction = client.Predict("xor", data.inputs, {.logits = true, .classes = true});
  ASSERT_TRUE(prediction.ok());
  EXPECT_EQ(prediction->logits.rows(), 200);
  EXPECT_EQ(prediction->logits.type(), DataType::kFloat32);
  int correct = 0;
  for (size_t i = 0; i < 200; ++i) {
    const auto row = static_cast<int64_t>(i);
    EXPECT_EQ(prediction->classes[i],
              prediction->logits.at(row, 1) > prediction->logits.at(row, 0) ? 1 : 0);
    correct += prediction->classes[i] == data.labels[i];
  }
  const auto evaluation = client.Evaluate("xor", data);
  EXPECT_NEAR(*evaluation->metrics.accuracy, correct / 200.0, 1e-12);

  const auto check = client.GradCheck("xor", data);
  ASSERT_TRUE(check.ok());
  EXPECT_TRUE(check->passed);
  EXPECT_EQ(check->tensors.size(), 4U);
  EXPECT_EQ(check->verdict, GradCheckVerdict::kPassed);
  // With rounding, no gradient agrees to this tolerance.
  const auto finer = client.GradCheck("xor", data, {.tolerance = 1e-17});
  EXPECT_EQ(finer->verdict, GradCheckVerdict::kInconclusive);
  EXPECT_NE(finer->explanation, "");
}

TEST_F(ClientTest, ParametersComeBackAsTheyWere) {
  ModelSpec spec = XorSpec();
  spec.optimizer = Adam{};
  ASSERT_TRUE(client.CreateModel(spec, {.model_id = "m"}).ok());
  ASSERT_TRUE(client.Train("m", data, {.iterations = 10}).ok());
  const auto parameters = client.GetParameters("m");
  ASSERT_EQ(parameters->tensors.size(), 4U);
  EXPECT_TRUE(parameters->tensors[1].is_vector);
  EXPECT_EQ(parameters->optimizer_state.size(), 8U);
  EXPECT_TRUE(client.GetParameters("m", false)->optimizer_state.empty());
  ASSERT_TRUE(
      client.CreateModel(spec, {.model_id = "copy", .initial_parameters = *parameters}).ok());
  ASSERT_TRUE(client.Train("m", data, {.iterations = 10}).ok());
  EXPECT_EQ(client.SetParameters("m", *parameters).value(), 10);
  for (const char* id : {"m", "copy"}) ASSERT_TRUE(client.Step(id, data).ok());
  const auto a = client.GetParameters("m"), b = client.GetParameters("copy");
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(a->tensors[i].tensor, b->tensors[i].tensor);
}

// Every option of a spec is sent, understood and returned.
TEST_F(ClientTest, SpecsComeBackAsTheyWere) {
  ModelSpec spec;
  spec.input_size = 2;
  spec.layers.resize(3);
  spec.layers[0] = {.units = 4, .activation = Activation::kLeakyRelu, .negative_slope = 0.2};
  spec.layers[0].dropout = 0.25;
  spec.layers[1] = {.units = 3, .activation = Activation::kElu, .alpha = 1.5};
  spec.layers[2] = {.units = 2, .initializer = Initializer::kConstant, .initial_value = 0.5};
  spec.l1 = 0.01;
  spec.clipping = ClipNorm{2};
  spec.input_standardization = InputStandardization{{1, 2}, {3, 4}};
  spec.schedule = {CosineSchedule{100, 1e-5}, 10, 0.5};
  const Loss losses[] = {SoftmaxCrossEntropy{0.1, {1, 2}}, BinaryCrossEntropy{{1, 2}, {0.5, 1}},
                         MeanSquaredError{}, MeanAbsoluteError{}, Huber{0.7}};
  const Optimizer optimizers[] = {
      Sgd{0.1, 0.9, true, 0.01}, Adam{0.1, 0.8, 0.9, 1e-6, 0.02}, AdamW{0.1, 0.8, 0.9, 1e-6, 0.2},
      RmsProp{0.1, 0.9, 1e-6, 0.5, true, 0.1}, Adagrad{0.1, 0.2, 1e-6, 0.3, 0.4}};
  for (size_t i = 0; i < std::size(losses); ++i) {
    spec.loss = losses[i];
    spec.optimizer = optimizers[i];
    if (i == 1) spec.schedule.kind = StepSchedule{7, 0.3};
    if (i == 2) spec.schedule.kind = ExponentialSchedule{0.9};
    if (i == 3) spec.schedule.kind = ReduceOnPlateauSchedule{0.5, 3, 0.01, 2, 1e-6};
    if (i == 4) spec.clipping = ClipValue{0.1};
    const auto created = client.CreateModel(spec);
    ASSERT_TRUE(created.ok()) << created.status().ToString();
    v1::ModelSpec sent, came;
    ToMessage(spec, &sent);
    ToMessage(created->spec, &came);
    // The server filled in the defaults.
    for (auto& layer : *sent.mutable_layers()) {
      if (layer.initializer() == 0) {
        layer.set_initializer(v1::INITIALIZER_PYTORCH_LINEAR);
        layer.set_bias_initializer(v1::INITIALIZER_PYTORCH_LINEAR);
      }
      if (layer.activation() == 0) layer.set_activation(v1::ACTIVATION_IDENTITY);
    }
    EXPECT_EQ(sent.DebugString(), came.DebugString());
  }
}

TEST_F(ClientTest, RunsValidateAndStopEarly) {
  ModelSpec spec = XorSpec();
  spec.input_standardization = InputStandardization{};
  spec.schedule.kind = ReduceOnPlateauSchedule{};
  ASSERT_TRUE(client.CreateModel(spec, {.model_id = "m"}).ok());
  EXPECT_EQ(client.Predict("m", data.inputs).status().reason, "NOT_FITTED");
  TrainOptions train;
  train.epochs = 100;
  train.validation_split = 0.25;
  train.early_stopping = EarlyStopping{2, 1e9, true};
  const auto summary = client.Train("m", data, train);
  ASSERT_TRUE(summary.ok()) << summary.status().ToString();
  EXPECT_EQ(summary->stop_reason, StopReason::kEarlyStopped);
  EXPECT_EQ(summary->best_iteration, 1);
  EXPECT_TRUE(summary->restored_best);
  EXPECT_EQ(summary->validation->rows, 50);
  const auto parameters = client.GetParameters("m");
  ASSERT_TRUE(parameters->input_standardization.has_value());
  EXPECT_EQ(parameters->input_standardization->mean.size(), 2U);
  EXPECT_TRUE(parameters->plateau.has_value());
  // Fitted values and the plateau state are part of the parameters.
  ASSERT_TRUE(
      client.CreateModel(spec, {.model_id = "copy", .initial_parameters = *parameters}).ok());
  EXPECT_EQ(client.Predict("copy", data.inputs)->probabilities,
            client.Predict("m", data.inputs)->probabilities);
}

TEST_F(ClientTest, EvaluationsAreDetailed) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  const auto evaluation = client.Evaluate("m", data);
  ASSERT_TRUE(evaluation->classification.has_value());
  EXPECT_EQ(evaluation->classification->confusion_matrix.size(), 4U);
  EXPECT_EQ(evaluation->classification->classes.size(), 2U);
  EXPECT_FALSE(client.Evaluate("m", data, {.summary_only = true})->classification.has_value());
}

TEST_F(ClientTest, HalvesOfAStepAndStreamsOfSteps) {
  for (const char* id : {"whole", "halves", "streamed"}) {
    ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = id}).ok());
  }
  StepStream stream = client.OpenStepStream("streamed");
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(client.Step("whole", Rows(data, 20 * i, 20)).ok());
    const auto gradients = client.ComputeGradients("halves", Rows(data, 20 * i, 20));
    EXPECT_EQ(gradients->weight, 20);
    ASSERT_TRUE(client.ApplyGradients("halves", gradients->tensors, i).ok());
    ASSERT_TRUE(stream.Send(Rows(data, 20 * i, 20)));
  }
  Batch bad = Rows(data, 0, 2);
  bad.sample_weights = {0, 0};
  ASSERT_TRUE(stream.Send(bad));
  stream.DoneSending();
  for (int64_t i = 1; i <= 10; ++i) EXPECT_EQ((*stream.Receive())->step, i);
  const auto refused = stream.Receive();
  EXPECT_EQ(refused->status().field_violations[0].field, "batch.sample_weights");
  EXPECT_FALSE(stream.Receive().has_value());
  EXPECT_TRUE(stream.Finish().ok());
  const auto whole = client.GetParameters("whole");
  for (const char* id : {"halves", "streamed"}) {
    const auto other = client.GetParameters(id);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(other->tensors[i].tensor, whole->tensors[i].tensor);
  }
}

TEST_F(ClientTest, ACallbackMayEndTheCall) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  int events = 0;
  const auto summary = client.Train("m", data, {.iterations = kForever},
                                    [&](const TrainingEvent&) { return ++events < 2; });
  EXPECT_EQ(summary.status().code, StatusCode::kCancelled);
  while (!client.GetModel("m")->active_run.empty()) std::this_thread::yield();
  EXPECT_GT(client.GetModel("m")->step, 0);
}

TEST_F(ClientTest, DetachWatchStop) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  const auto left = client.Train("m", data, {.iterations = kForever, .detach = true},
                                 [](const TrainingEvent&) { return false; });
  EXPECT_EQ(left.status().code, StatusCode::kCancelled);
  Result<TrainingSummary> watched = Status{StatusCode::kUnknown};
  std::thread watcher([&] { watched = client.WatchTraining("m"); });
  const auto stopped = client.StopTraining("m");
  ASSERT_TRUE(stopped.ok()) << stopped.status().ToString();
  EXPECT_EQ(stopped->run, "models/m/runs/1");
  watcher.join();
  ASSERT_TRUE(watched.ok());
  EXPECT_EQ(watched->stop_reason, StopReason::kStopped);
  EXPECT_EQ(watched->iterations, stopped->summary.iterations);
  EXPECT_EQ(client.StopTraining("m").status().reason, "NO_RUN");
}

TEST_F(ClientTest, DeadlinesAndCancellationReachTheServer) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  const auto late = client.Train("m", data, {.iterations = kForever}, nullptr,
                                 {.timeout = std::chrono::milliseconds(200)});
  EXPECT_EQ(late.status().code, StatusCode::kDeadlineExceeded);
  while (!client.GetModel("m")->active_run.empty()) std::this_thread::yield();
  Cancellation cancellation;
  const auto cancelled = client.Train("m", data, {.iterations = kForever},
                                      [&](const TrainingEvent& event) {
                                        if (event.sequence == 2) cancellation.Cancel();
                                        return true;
                                      },
                                      {.cancellation = cancellation});
  EXPECT_EQ(cancelled.status().code, StatusCode::kCancelled);
  EXPECT_EQ(client.GetModel("m", {.cancellation = cancellation}).status().code,
            StatusCode::kCancelled);
}

TEST_F(ClientTest, TheSameRequestIdAppliesOnce) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  const CallOptions once{.request_id = "r"};
  EXPECT_EQ(client.Step("m", data, std::nullopt, once)->step, 1);
  EXPECT_EQ(client.Step("m", data, std::nullopt, once)->step, 1);
  EXPECT_EQ(client.Step("m", data)->step, 2);
  EXPECT_EQ(client.Step("m", data)->step, 3) << "without one, each call is its own";
}

std::vector<Tensor> Tensors(const Result<Parameters>& parameters) {
  std::vector<Tensor> tensors;
  for (const NamedTensor& tensor : parameters->tensors) tensors.push_back(tensor.tensor);
  return tensors;
}

TEST_F(ClientTest, CheckpointsBringTheModelBack) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  const auto before = client.GetParameters("m");
  const auto kept = client.CreateCheckpoint("m", "a");
  ASSERT_TRUE(kept.ok()) << kept.status().ToString();
  EXPECT_EQ(kept->name, "models/m/checkpoints/a");
  TrainOptions options{.iterations = 10};
  options.checkpoints = CheckpointOptions{.every_iterations = 4, .keep_last = 1, .keep_best = true};
  ASSERT_TRUE(client.Train("m", data, options).ok());
  const auto all = client.ListCheckpoints("models/m");
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 3U);
  EXPECT_TRUE((*all)[1].best);
  EXPECT_EQ((*all)[2].name, "models/m/checkpoints/run-1-iteration-8");
  EXPECT_EQ((*all)[2].run, "models/m/runs/1");
  EXPECT_EQ(client.RestoreCheckpoint("m", "a", 9).status().code, StatusCode::kAborted);
  EXPECT_EQ(*client.RestoreCheckpoint("m", "models/m/checkpoints/a", 10), 0);
  EXPECT_EQ(Tensors(client.GetParameters("m")), Tensors(before));
  EXPECT_TRUE(client.DeleteCheckpoint("m", "a").ok());
  EXPECT_EQ(client.RestoreCheckpoint("m", "a").status().reason, "CHECKPOINT_NOT_FOUND");
}

TEST_F(ClientTest, DatasetsAreUploadedWithChecksumsAndUsedByName) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "named"}).ok());
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "sent"}).ok());
  int64_t seen = 0;
  UploadOptions upload{.labels = {{"k", "v"}}, .on_progress = [&](int64_t rows) { seen = rows; }};
  const auto uploaded = client.UploadDataset("d", data, upload);
  ASSERT_TRUE(uploaded.ok()) << uploaded.status().ToString();
  EXPECT_TRUE(uploaded->ready);
  EXPECT_EQ(uploaded->rows, 200);
  EXPECT_EQ(seen, 200);
  EXPECT_EQ(uploaded->labels.at("k"), "v");
  TrainOptions options{.iterations = 20, .batch_size = 30};
  ASSERT_TRUE(client.Train("sent", data, options).ok());
  options.dataset = "d";
  ASSERT_TRUE(client.Train("named", {}, options).ok());
  EXPECT_EQ(Tensors(client.GetParameters("named")), Tensors(client.GetParameters("sent")));
  EvaluateOptions by_name{.dataset = "datasets/d"};
  EXPECT_EQ(client.Evaluate("named", {}, by_name)->metrics.rows, 200);
  // In the other precision, with targets and weights: the checksum is that of the stored rows.
  Batch regression{.inputs = Tensor(2, 1, std::vector<float>{1, 2}),
                   .targets = Tensor(2, 1, std::vector<double>{0.1, 0.2}),
                   .sample_weights = {1, 0.1}};
  for (const DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    const std::string id = type == DataType::kFloat32 ? "single" : "double";
    const auto kept = client.UploadDataset(id, regression, {.data_type = type});
    ASSERT_TRUE(kept.ok()) << kept.status().ToString();
    EXPECT_EQ(kept->data_type, type);
    EXPECT_TRUE(kept->has_sample_weights);
  }
  EXPECT_EQ(client.ListDatasets()->size(), 3U);
  EXPECT_EQ(client.GetDataset("d")->input_size, 2);
  EXPECT_TRUE(client.DeleteDataset("d").ok());
  EXPECT_EQ(client.GetDataset("d").status().reason, "DATASET_NOT_FOUND");
}

// The connection breaks in the middle: the rest is sent on another connection, and no row twice.
TEST(ClientRetryTest, AnUploadGoesOnBehindWhatTheServerHas) {
  const std::string path = testing::TempDir() + "bp_client_upload.sock";
  const std::string behind = testing::TempDir() + "bp_client_upload_behind.sock";
  rpc::TestServer server({}, behind);
  CuttingProxy proxy(path, behind);
  Client client("unix:" + path,
                {.retry = {.max_attempts = 50, .first_pause = std::chrono::milliseconds(10)}});
  const Batch data = *MakeDataset("xor");
  const auto rows_there = [&] {
    Client direct("unix:" + behind);
    const auto dataset = direct.GetDataset("d");
    return dataset.ok() ? dataset->rows : 0;
  };
  std::vector<int64_t> asked;
  const auto uploaded = client.UploadDataset("d", [&](int64_t first) -> std::optional<Batch> {
    asked.push_back(first);
    if (first >= 200) return std::nullopt;
    if (asked.size() == 3) {  // 100 rows were sent
      while (rows_there() < 100) std::this_thread::yield();
      proxy.Cut();
    }
    return Rows(data, first, 50);
  });
  ASSERT_TRUE(uploaded.ok()) << uploaded.status().ToString();
  EXPECT_TRUE(uploaded->ready);
  EXPECT_EQ(uploaded->rows, 200);
  // From the first row, then from the first row that the server does not have.
  ASSERT_GE(asked.size(), 6U);
  EXPECT_EQ((std::vector<int64_t>(asked.begin(), asked.begin() + 3)),
            (std::vector<int64_t>{0, 50, 100}));
  EXPECT_EQ((std::vector<int64_t>(asked.end() - 3, asked.end())),
            (std::vector<int64_t>{100, 150, 200}));
  EXPECT_EQ(std::count(asked.begin(), asked.end(), 0), 1);
}

TEST_F(ClientTest, ModelsAreFiles) {
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  ASSERT_TRUE(client.Step("m", data).ok());
  std::string file;
  ASSERT_TRUE(client
                  .ExportModel("m",
                               [&](std::string_view bytes) {
                                 file += bytes;
                                 return true;
                               })
                  .ok());
  bool sent = false;
  const auto source = [&]() -> std::optional<std::string> {
    if (std::exchange(sent, true)) return std::nullopt;
    return file;
  };
  const auto imported = client.ImportModel(source, {.model_id = "copy"});
  ASSERT_TRUE(imported.ok()) << imported.status().ToString();
  EXPECT_EQ(imported->step, 1);
  EXPECT_EQ(Tensors(client.GetParameters("copy")), Tensors(client.GetParameters("m")));
  EXPECT_EQ(client.ExportModel("m", [](std::string_view) { return false; }).code,
            StatusCode::kCancelled);
  file.clear();
  sent = false;
  ASSERT_TRUE(client
                  .ExportModel("m", ModelFileFormat::kOnnx,
                               [&](std::string_view bytes) {
                                 file += bytes;
                                 return true;
                               })
                  .ok());
  EXPECT_EQ(file[0], '\x08');
  OptimizerSettings optimizer;
  optimizer.optimizer = Adam{.learning_rate = 0.5};
  optimizer.clipping = ClipNorm{2};
  const auto from_onnx = client.ImportModel(
      source, {.model_id = "onnx", .loss = SoftmaxCrossEntropy{0.25, {}}, .optimizer = optimizer});
  ASSERT_TRUE(from_onnx.ok()) << from_onnx.status().ToString();
  EXPECT_EQ(std::get<SoftmaxCrossEntropy>(from_onnx->spec.loss).label_smoothing, 0.25);
  EXPECT_EQ(std::get<Adam>(from_onnx->spec.optimizer).learning_rate, 0.5);
  EXPECT_EQ(std::get<ClipNorm>(from_onnx->spec.clipping).max_norm, 2);
  EXPECT_EQ(Tensors(client.GetParameters("onnx")), Tensors(client.GetParameters("m")));
  EXPECT_EQ(client.CreateBackup([](std::string_view) { return true; }).reason, "NO_DATA_DIR");
}

TEST_F(ClientTest, HealthIsAsked) {
  EXPECT_TRUE(client.CheckHealth().value());
  EXPECT_TRUE(client.CheckHealth("backprop.v1.TrainingService").value());
  EXPECT_EQ(client.CheckHealth("other").status().code, StatusCode::kNotFound);
}

// The server is not running yet when the call starts.
TEST(ClientRetryTest, UnavailableIsTriedAgainUntilTheServerIsThere) {
  const std::string path = testing::TempDir() + "bp_client_retry.sock";
  Client client("unix:" + path,
                {.retry = {.max_attempts = 50, .first_pause = std::chrono::milliseconds(20)}});
  Result<ModelInfo> created = Status{StatusCode::kUnknown};
  std::thread caller([&] { created = client.CreateModel(XorSpec(), {.model_id = "m"}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  rpc::TestServer server({}, path);
  caller.join();
  ASSERT_TRUE(created.ok()) << created.status().ToString();
  EXPECT_EQ(server.registry.size(), 1);
}

TEST(ClientRetryTest, AttemptsAndDeadlinesEndTheRetries) {
  Client client("unix:/nonexistent/server.sock",
                {.retry = {.max_attempts = 3, .first_pause = std::chrono::milliseconds(1)}});
  EXPECT_EQ(client.GetModel("m").status().code, StatusCode::kUnavailable);
  Client patient("unix:/nonexistent/server.sock", {.retry = {.max_attempts = 1'000'000}});
  EXPECT_FALSE(patient.GetModel("m", {.timeout = std::chrono::milliseconds(200)}).ok());
}

// A watcher whose server restarts without the run gets an error instead of waiting.
TEST(ClientRetryTest, AWatcherEndsWhenTheServerStops) {
  auto server = std::make_unique<rpc::TestServer>();
  Client client(server->address,
                {.retry = {.max_attempts = 2, .first_pause = std::chrono::milliseconds(1)}});
  ASSERT_TRUE(client.CreateModel(XorSpec(), {.model_id = "m"}).ok());
  std::atomic<bool> started{false};
  Result<TrainingSummary> summary = Status{StatusCode::kUnknown};
  std::thread trainer([&] {
    summary = client.Train("m", *MakeDataset("xor"), {.iterations = int64_t{1} << 50},
                           [&](const TrainingEvent&) {
                             started = true;
                             return true;
                           });
  });
  while (!started) std::this_thread::yield();
  server.reset();
  trainer.join();
  EXPECT_EQ(summary.status().code, StatusCode::kUnavailable);
}

}  // namespace
}  // namespace backprop
