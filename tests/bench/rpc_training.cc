#include <thread>

#include "tests/bench/rpc_bench.h"

namespace backprop::bench {
namespace {

v1::TrainRequest XorRun(const std::string& model, int64_t iterations) {
  v1::TrainRequest request;
  request.set_model("models/" + model);
  *request.mutable_data() = BatchOf(200, 2, 2);
  request.mutable_config()->set_iterations(iterations);
  return request;
}

// One run, with its progress read to the end.
void Train(const Connection& connection, const v1::TrainRequest& request) {
  grpc::ClientContext context;
  const auto stream = connection.training->Train(&context, request);
  v1::TrainResponse response;
  int64_t made = 0;
  while (stream->Read(&response)) {
    if (response.event().has_summary()) made = response.event().summary().iterations();
  }
  Check(stream->Finish(), "Train");
  if (made != request.config().iterations()) {
    Check({grpc::StatusCode::DATA_LOSS, "iterations miss"}, "Train");
  }
}

// Seconds for the runs of `requests`, all at once or one after the other.
double AtOnce(const Connection& connection, const std::vector<v1::TrainRequest>& requests) {
  return Seconds([&] {
    std::vector<std::thread> threads;
    for (const auto& request : requests) {
      threads.emplace_back([&] { Train(connection, request); });
    }
    for (std::thread& thread : threads) thread.join();
  });
}
double InTurn(const Connection& connection, const std::vector<v1::TrainRequest>& requests) {
  return Seconds([&] {
    for (const auto& request : requests) Train(connection, request);
  });
}

}  // namespace

void TrainingRows(const Options& options) {
  const bool xor_run = Wanted(options, "train_xor_3000");
  const bool two = Wanted(options, "two_models_two_cores");
  const bool many = Wanted(options, "models_64_at_once");
  if (!xor_run && !two && !many) return;
  const BenchServer server;
  const Connection connection(server.tcp());
  for (int i = 0; i < 64; ++i) CreateModel(connection, "m" + std::to_string(i), SpecOf(2, {8, 2}));
  const int turns = options.quick ? 1 : 11;
  const auto measure = [&](const auto& work) {
    std::vector<double> seconds;
    for (int i = 0; i < turns; ++i) seconds.push_back(work());
    return Quantile(seconds, 0.5);
  };
  if (xor_run) {
    const auto request = XorRun("m0", options.quick ? 30 : 3000);
    Train(connection, request);
    Print("train_xor_3000", "",
          1e6 * measure([&] { return Seconds([&] { Train(connection, request); }); }), "us");
  }
  if (two) {
    const int64_t iterations = options.quick ? 30 : 1'000'000;
    const std::vector<v1::TrainRequest> both = {XorRun("m0", iterations), XorRun("m1", iterations)};
    const std::vector<v1::TrainRequest> one = {XorRun("m0", iterations)};
    Print("two_models_two_cores", "", 2e-3 * static_cast<double>(iterations) / measure([&] {
                                        return AtOnce(connection, both);
                                      }),
          "k steps/s");
    Print("two_models_two_cores", "one model alone",
          1e-3 * static_cast<double>(iterations) / measure([&] { return InTurn(connection, one); }),
          "k steps/s");
  }
  if (many) {
    std::vector<v1::TrainRequest> requests;
    for (int i = 0; i < 64; ++i) {
      requests.push_back(XorRun("m" + std::to_string(i), options.quick ? 3 : 3000));
    }
    Print("models_64_at_once", "", 1e3 * measure([&] { return AtOnce(connection, requests); }),
          "ms");
    Print("models_64_at_once", "one after the other",
          1e3 * measure([&] { return InTurn(connection, requests); }), "ms");
  }
}

}  // namespace backprop::bench
