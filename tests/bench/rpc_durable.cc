#include <algorithm>
#include <filesystem>
#include <random>
#include <utility>

#include "tests/bench/rpc_bench.h"
#include "tests/temporary_directory.h"

namespace backprop::bench {
namespace {

constexpr int kModels = 64;

std::vector<v1::StepRequest> StepsOf(const Connection& connection) {
  std::vector<v1::StepRequest> steps(kModels);
  for (int i = 0; i < kModels; ++i) {
    const std::string id = "m" + std::to_string(i);
    CreateModel(connection, id, SpecOf(2, {8, 2}));
    steps[static_cast<size_t>(i)].set_model("models/" + id);
    *steps[static_cast<size_t>(i)].mutable_batch() = BatchOf(32, 2, 2);
  }
  return steps;
}

// Steps of 64 models in turn, acknowledged when they are on disk, compared with the same in memory.
void StepRates(const Options& options) {
  const TemporaryDirectory directory;
  const BenchServer durable({.data_dir = directory.path()}), memory;
  const Connection to_durable(durable.tcp()), to_memory(memory.tcp());
  const auto durable_steps = StepsOf(to_durable), memory_steps = StepsOf(to_memory);
  for (int in_flight : {1, 8, 64, 512}) {
    const std::string name = "durable_step_" + std::to_string(in_flight);
    if (!Wanted(options, name)) continue;
    std::vector<double> ours, theirs;
    for (int i = 0; i < (options.quick ? 1 : 3); ++i) {
      const auto rate = [&](const Connection& connection, const auto& steps) {
        return CallRate<v1::StepResponse>(
            options.quick ? 0.02 : 1, in_flight, steps,
            [&](auto... args) { connection.training->async()->Step(args...); });
      };
      ours.push_back(rate(to_durable, durable_steps));
      theirs.push_back(rate(to_memory, memory_steps));
    }
    Print(name, "", Quantile(ours, 0.5), "/s");
    Print(name, "in memory", Quantile(theirs, 0.5), "/s");
  }
}

// The first Predict of models that are not loaded: how long each takes, in µs.
std::vector<double> ColdPredictions(const Connection& connection, int models, int count) {
  std::mt19937 random(1);
  std::vector<double> us;
  for (int i = 0; i < count; ++i) {
    v1::PredictRequest request;
    request.set_model("models/tenant-" + std::to_string(random() % static_cast<unsigned>(models)));
    *request.mutable_inputs() = BatchOf(1, 2, 2).inputs();
    v1::PredictResponse response;
    grpc::ClientContext context;
    us.push_back(1e6 * Seconds([&] {
                   Check(connection.training->Predict(&context, request, &response), "Predict");
                 }));
  }
  return us;
}

// Starts with a directory of many models, and the first Predict of models that are not loaded.
void Restart(const Options& options) {
  const int count = options.quick ? 500 : 100'000;
  const TemporaryDirectory directory;
  {
    const BenchServer server({.data_dir = directory.path()});
    const Connection connection(server.tcp());
    const double seconds = CreateMany(connection, count);
    Print("durable_models_created", "", count / seconds, "/s");
  }
  std::unique_ptr<BenchServer> server;
  const double start = Seconds(
      [&] { server = std::make_unique<BenchServer>(ServerKind{.data_dir = directory.path()}); });
  Print("durable_restart_100k", "", 1e3 * start, "ms");
  Print("durable_restart_100k", "the limit", 1e3, "ms");
  const Connection connection(server->tcp());
  const auto us = ColdPredictions(connection, count, options.quick ? 20 : 2000);
  Print("durable_predict_cold_p50", "", Quantile(us, 0.5), "us");
  Print("durable_predict_cold_p99", "", Quantile(us, 0.99), "us");
  Print("durable_predict_cold_p99", "the limit", 5000, "us");
}

// Ten times as many models as fit in memory: the server's memory, and the time to restart.
void Million(const Options& options) {
  const int count = options.quick ? 2000 : 1'000'000;
  constexpr int64_t kLimit = int64_t{1} << 30;
  const TemporaryDirectory directory;
  {
    const BenchServer server({.data_dir = directory.path(), .memory_limit = kLimit});
    const Connection connection(server.tcp());
    CreateMany(connection, count);
    Print("million_models_resident", "", static_cast<double>(server.ResidentBytes()) / 1e6, "MB");
  }
  std::unique_ptr<BenchServer> server;
  const double start = Seconds([&] {
    server = std::make_unique<BenchServer>(
        ServerKind{.data_dir = directory.path(), .memory_limit = kLimit});
  });
  Print("million_models_restart", "", 1e3 * start, "ms");
  const Connection connection(server->tcp());
  const auto us = ColdPredictions(connection, count, options.quick ? 20 : 20'000);
  Print("million_models_predict_cold_p50", "", Quantile(us, 0.5), "us");
  Print("million_models_predict_cold_p99", "", Quantile(us, 0.99), "us");
  Print("million_models_predict_cold_p99", "the limit", 5000, "us");
}

// Time of a start after a crash, which depends on the log, and bytes written to disk.
void Recovery(const Options& options) {
  const TemporaryDirectory directory;
  {
    BenchServer server({.data_dir = directory.path()});
    const Connection connection(server.tcp());
    CreateModel(connection, "large", SpecOf(784, {256, 128, 10}));
    v1::StepRequest step;
    step.set_model("models/large");
    *step.mutable_batch() = BatchOf(128, 784, 10);
    CallRate<v1::StepResponse>(options.quick ? 0.02 : 2, 8, std::vector<v1::StepRequest>{step},
                               [&](auto... args) { connection.training->async()->Step(args...); });
    server.Kill();
  }
  double log_bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    if (entry.path().extension() == ".log") log_bytes += static_cast<double>(entry.file_size());
  }
  std::unique_ptr<BenchServer> server;
  const double start = Seconds(
      [&] { server = std::make_unique<BenchServer>(ServerKind{.data_dir = directory.path()}); });
  Print("durable_recovery_per_gb_of_log", "", start / (log_bytes / 1e9), "s");
}

void WriteAmplification(const Options& options) {
  const TemporaryDirectory directory;
  const BenchServer server({.data_dir = directory.path()});
  const Connection connection(server.tcp());
  const auto steps = StepsOf(connection);
  for (int in_flight : {1, 64}) {
    const int64_t before = server.WrittenBytes();
    const double seconds = options.quick ? 0.02 : 5;
    const double rate = CallRate<v1::StepResponse>(seconds, in_flight, steps, [&](auto... args) {
      connection.training->async()->Step(args...);
    });
    // The data of a step: 42 numbers and their counters.
    constexpr double kStateBytes = 42 * 4 + 16;
    Print("durable_write_amplification_" + std::to_string(in_flight), "",
          static_cast<double>(server.WrittenBytes() - before) / (rate * seconds * kStateBytes),
          "x");
  }
}

// Trains on a dataset that is mapped from disk, compared with the same in memory.
double TrainRate(const Connection& connection, const std::string& id, int inputs, int64_t rows,
                 int batch, const Options& options) {
  const int64_t at_once = std::max<int64_t>(1, 4'000'000 / (4 * inputs + 4));
  grpc::ClientContext upload_context;
  v1::UploadDatasetResponse uploaded;
  const auto writer = connection.training->UploadDataset(&upload_context, &uploaded);
  v1::UploadDatasetRequest request;
  request.mutable_header()->set_dataset_id(id);
  request.mutable_header()->set_request_id("bench");
  writer->Write(request);
  for (int64_t first = 0; first < rows; first += at_once) {
    const auto count = static_cast<int>(std::min(at_once, rows - first));
    request.mutable_chunk()->set_first_row(first);
    *request.mutable_chunk()->mutable_rows() = BatchOf(count, inputs, 2);
    request.mutable_chunk()->mutable_rows()->mutable_inputs()->add_shape(count);
    request.mutable_chunk()->mutable_rows()->mutable_inputs()->add_shape(inputs);
    writer->Write(request);
  }
  request.mutable_commit()->set_rows(rows);
  writer->Write(request);
  writer->WritesDone();
  Check(writer->Finish(), "UploadDataset");
  CreateModel(connection, id, inputs == 2 ? SpecOf(2, {8, 2}) : SpecOf(784, {256, 128, 2}));
  const auto train = [&](int64_t iterations) {
    v1::TrainRequest run;
    run.set_model("models/" + id);
    run.set_dataset("datasets/" + id);
    run.mutable_config()->set_iterations(iterations);
    run.mutable_config()->set_batch_size(batch);
    run.mutable_config()->set_shuffle(true);
    grpc::ClientContext context;
    const auto reader = connection.training->Train(&context, run);
    v1::TrainResponse response;
    double seconds = 0;
    bool begun = false;
    double begin = 0;
    const auto now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    // From the first step to the last: excludes reading the dataset and the final evaluation.
    while (reader->Read(&response)) {
      if (!response.event().has_progress()) continue;
      if (!std::exchange(begun, true)) begin = now();
      seconds = now() - begin;
    }
    Check(reader->Finish(), "Train");
    return static_cast<double>(iterations) / seconds;
  };
  const int64_t iterations = options.quick ? 100 : (inputs == 2 ? 2'000'000 : 4'000);
  return train(iterations);
}

void Datasets(const Options& options) {
  const TemporaryDirectory directory;
  const BenchServer mapped({.data_dir = directory.path()}), memory;
  const Connection to_mapped(mapped.tcp()), to_memory(memory.tcp());
  struct Shape {
    const char* name;
    int inputs;
    int64_t rows;
    int batch;
  };
  // More than 64 MiB, so that the dataset is mapped.
  for (const Shape& shape : {Shape{"dataset_mapped_2_features", 2, 9'000'000, 32},
                             Shape{"dataset_mapped_784_features", 784, 40'000, 128}}) {
    if (!Wanted(options, shape.name)) continue;
    const std::string id = shape.inputs == 2 ? "narrow" : "wide";
    for (const auto& [by, connection] :
         {std::pair{"", &to_mapped}, std::pair{"in memory", &to_memory}}) {
      Print(shape.name, by,
            TrainRate(*connection, id, shape.inputs, options.quick ? 10'000 : shape.rows,
                      shape.batch, options),
            "/s");
    }
  }
}

}  // namespace

void DurableRows(const Options& options) {
  const auto any = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(),
                       [&](const char* name) { return Wanted(options, name); });
  };
  if (any({"durable_step_1", "durable_step_8", "durable_step_64", "durable_step_512"})) {
    StepRates(options);
  }
  if (any({"durable_models_created", "durable_restart_100k", "durable_predict_cold_p50",
           "durable_predict_cold_p99"})) {
    Restart(options);
  }
  if (any({"million_models_resident", "million_models_restart", "million_models_predict_cold_p50",
           "million_models_predict_cold_p99"})) {
    Million(options);
  }
  if (any({"durable_recovery_per_gb_of_log"})) Recovery(options);
  if (any({"durable_write_amplification_1", "durable_write_amplification_64"})) {
    WriteAmplification(options);
  }
  if (any({"dataset_mapped_2_features", "dataset_mapped_784_features"})) Datasets(options);
}

}  // namespace backprop::bench
