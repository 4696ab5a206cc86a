#include <random>

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

// Steps of 64 models in turn, answered when they are on disk, beside the same in memory.
void StepRates(const Options& options) {
  const TemporaryDirectory directory;
  const BenchServer durable(directory.path()), memory;
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

// Starts on a directory with many models, and the first Predict of models that are not loaded.
void Restart(const Options& options) {
  const int count = options.quick ? 500 : 100'000;
  const TemporaryDirectory directory;
  {
    const BenchServer server(directory.path());
    const Connection connection(server.tcp());
    const double seconds = CreateMany(connection, count);
    Print("durable_models_created", "", count / seconds, "/s");
  }
  std::unique_ptr<BenchServer> server;
  const double start = Seconds([&] { server = std::make_unique<BenchServer>(directory.path()); });
  Print("durable_restart_100k", "", 1e3 * start, "ms");
  Print("durable_restart_100k", "the limit", 1e3, "ms");
  const Connection connection(server->tcp());
  std::mt19937 random(1);
  std::vector<double> us;
  for (int i = 0; i < (options.quick ? 20 : 2000); ++i) {
    v1::PredictRequest request;
    request.set_model("models/tenant-" + std::to_string(random() % static_cast<unsigned>(count)));
    *request.mutable_inputs() = BatchOf(1, 2, 2).inputs();
    v1::PredictResponse response;
    grpc::ClientContext context;
    us.push_back(1e6 * Seconds([&] {
                   Check(connection.training->Predict(&context, request, &response), "Predict");
                 }));
  }
  Print("durable_predict_cold_p50", "", Quantile(us, 0.5), "us");
  Print("durable_predict_cold_p99", "", Quantile(us, 0.99), "us");
  Print("durable_predict_cold_p99", "the limit", 5000, "us");
}

}  // namespace

void DurableRows(const Options& options) {
  bool rates = false;
  for (const char* name :
       {"durable_step_1", "durable_step_8", "durable_step_64", "durable_step_512"}) {
    rates = rates || Wanted(options, name);
  }
  if (rates) StepRates(options);
  bool restart = false;
  for (const char* name : {"durable_models_created", "durable_restart_100k",
                           "durable_predict_cold_p50", "durable_predict_cold_p99"}) {
    restart = restart || Wanted(options, name);
  }
  if (restart) Restart(options);
}

}  // namespace backprop::bench
