// The parts of bp_bench_rpc, each with the rows that it reports.
#ifndef BACKPROP_TESTS_BENCH_RPC_BENCH_H_
#define BACKPROP_TESTS_BENCH_RPC_BENCH_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/bench_server.h"
#include "tests/bench/figures.h"

namespace backprop::bench {

// Step, and an echo of the same payload: step_rpc_*_{p50,p99,rate}; step_stream_*.
void StepRows(const Options& options);
// What tokens, TLS and metrics cost a Step: cost_*.
void CostRows(const Options& options);
// Runs: train_xor_3000, two_models, models_64.
void TrainingRows(const Options& options);
// predict_*: one row, idle and during runs; 10,000 rows.
void PredictRows(const Options& options);
// get_parameters_10mb, models_100k_*.
void ModelRows(const Options& options);
// durable_*: the cost of a data directory, and of starting from one.
void DurableRows(const Options& options);

// Creates models tenant-0, tenant-1, … of XOR size from one client, 64 calls at a time; seconds.
double CreateMany(const Connection& connection, int count);

// Calls per second with `in_flight` concurrent calls on one connection, measured for the given
// number of seconds. `start` starts an asynchronous call: (context, request, response, callback);
// requests are used in turn.
template <class Response, class Request, class Start>
double CallRate(double seconds, int in_flight, const std::vector<Request>& requests,
                const Start& start) {
  struct Call {
    std::unique_ptr<grpc::ClientContext> context;
    Response response;
  };
  std::vector<Call> calls(static_cast<size_t>(in_flight));
  std::mutex mu;
  std::condition_variable ended;
  int under_way = in_flight;
  std::atomic<int64_t> begun{0}, done{0};
  std::atomic<bool> stop{false};
  std::function<void(Call*)> next = [&](Call* call) {
    call->context = std::make_unique<grpc::ClientContext>();
    const auto& request = requests[static_cast<size_t>(begun++) % requests.size()];
    start(call->context.get(), &request, &call->response, [&, call](const grpc::Status& status) {
      Check(status, "call");
      ++done;
      if (!stop) return next(call);
      const std::lock_guard lock(mu);
      --under_way;
      ended.notify_all();
    });
  };
  const double elapsed = Seconds([&] {
    for (Call& call : calls) next(&call);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    std::unique_lock lock(mu);
    ended.wait(lock, [&] { return under_way == 0; });
  });
  return static_cast<double>(done) / elapsed;
}

}  // namespace backprop::bench

#endif  // BACKPROP_TESTS_BENCH_RPC_BENCH_H_
