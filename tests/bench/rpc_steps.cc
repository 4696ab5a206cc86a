#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/bench/rpc_bench.h"

namespace backprop::bench {
namespace {

constexpr char kEcho[] = "echo on the same server";

v1::StepRequest XorStep(int rows) {
  v1::StepRequest request;
  request.set_model("models/xor");
  *request.mutable_batch() = BatchOf(rows, 2, 2);
  return request;
}

Payload PayloadOf(const google::protobuf::Message& message) {
  Payload payload;
  payload.set_data(std::string(message.ByteSizeLong(), 'x'));
  return payload;
}

double StepMicroseconds(const Connection& connection, const v1::StepRequest& request) {
  grpc::ClientContext context;
  v1::StepResponse response;
  return 1e6 *
         Seconds([&] { Check(connection.training->Step(&context, request, &response), "Step"); });
}

double EchoMicroseconds(const Connection& connection, const Payload& request) {
  grpc::ClientContext context;
  Payload response;
  return 1e6 *
         Seconds([&] { Check(connection.echo->Unary(&context, request, &response), "Unary"); });
}

// Makes calls one at a time.
void Latency(const Options& options, const Connection& connection, const std::string& name,
             const v1::StepRequest& step) {
  const Payload payload = PayloadOf(step);
  const int calls = options.quick ? 50 : 10'000;
  std::vector<double> steps, echoes;
  for (int i = 0; i < calls; ++i) {
    const double step_us = StepMicroseconds(connection, step);
    const double echo_us = EchoMicroseconds(connection, payload);
    if (i < calls / 10) continue;  // warm up
    steps.push_back(step_us);
    echoes.push_back(echo_us);
  }
  for (const auto& [label, q] : {std::pair{"_p50", 0.5}, std::pair{"_p99", 0.99}}) {
    Print(name + label, "", Quantile(steps, q), "us");
    Print(name + label, kEcho, Quantile(echoes, q), "us");
  }
}

void Rates(const Options& options, const Connection& connection, const std::string& name,
           const v1::StepRequest& step) {
  constexpr int kInFlight = 16;
  const double seconds = options.quick ? 0.02 : 1;
  const Payload payload = PayloadOf(step);
  std::vector<double> steps, echoes;
  for (int i = 0; i < (options.quick ? 1 : 3); ++i) {
    steps.push_back(CallRate<v1::StepResponse>(
        seconds, kInFlight, std::vector<v1::StepRequest>{step},
        [&](auto... args) { connection.training->async()->Step(args...); }));
    echoes.push_back(
        CallRate<Payload>(seconds, kInFlight, std::vector<Payload>{payload},
                          [&](auto... args) { connection.echo->async()->Unary(args...); }));
  }
  Print(name + "_rate", "", Quantile(steps, 0.5), "/s");
  Print(name + "_rate", kEcho, Quantile(echoes, 0.5), "/s");
}

// Messages per second: one thread sends, at most kWindow ahead, another receives.
template <class Request, class Response, class Stream>
double StreamRate(int64_t messages, const Request& request, Stream* stream) {
  constexpr int64_t kWindow = 64;
  std::mutex mu;
  std::condition_variable changed;
  int64_t received = 0;
  return static_cast<double>(messages) / Seconds([&] {
           std::thread sender([&] {
             for (int64_t sent = 0; sent < messages; ++sent) {
               {
                 std::unique_lock lock(mu);
                 changed.wait(lock, [&] { return sent - received < kWindow; });
               }
               stream->Write(request);
             }
             stream->WritesDone();
           });
           Response response;
           while (stream->Read(&response)) {
             const std::lock_guard lock(mu);
             // Wake the sender for several messages at once.
             if (++received % 16 == 0 || received == messages) changed.notify_one();
           }
           sender.join();
           Check(stream->Finish(), "stream");
           if (received != messages) Check({grpc::StatusCode::DATA_LOSS, "answers miss"}, "stream");
         });
}

void StreamRates(const Options& options, const Connection& connection, const std::string& name,
                 const v1::StepRequest& step) {
  const int64_t messages = options.quick ? 200 : 50'000;
  v1::StepStreamRequest request;
  *request.mutable_step() = step;
  const Payload payload = PayloadOf(request);
  std::vector<double> steps, echoes;
  for (int i = 0; i < (options.quick ? 1 : 5); ++i) {
    grpc::ClientContext step_context, echo_context;
    steps.push_back(StreamRate<v1::StepStreamRequest, v1::StepStreamResponse>(
        messages, request, connection.training->StepStream(&step_context).get()));
    echoes.push_back(StreamRate<Payload, Payload>(messages, payload,
                                                  connection.echo->Stream(&echo_context).get()));
  }
  Print(name, "", Quantile(steps, 0.5), "/s");
  Print(name, kEcho, Quantile(echoes, 0.5), "/s");
}

}  // namespace

void StepRows(const Options& options) {
  const std::string kinds[] = {"step_rpc_", "step_stream_"};
  bool any = false;
  for (const std::string transport : {"tcp", "unix"}) {
    for (int rows : {1, 32, 200}) {
      for (const std::string& kind : kinds) {
        any = any || Wanted(options, kind + transport + "_" + std::to_string(rows));
      }
    }
  }
  if (!any) return;
  const BenchServer server;
  const Connection tcp(server.tcp()), unix_socket(server.unix_socket());
  CreateModel(tcp, "xor", SpecOf(2, {8, 2}));
  for (const Connection* connection : {&tcp, &unix_socket}) {
    for (int rows : {1, 32, 200}) {
      const std::string label = (connection == &tcp ? "tcp_" : "unix_") + std::to_string(rows);
      const v1::StepRequest step = XorStep(rows);
      if (Wanted(options, "step_rpc_" + label)) {
        Latency(options, *connection, "step_rpc_" + label, step);
        Rates(options, *connection, "step_rpc_" + label, step);
      }
      if (Wanted(options, "step_stream_" + label)) {
        StreamRates(options, *connection, "step_stream_" + label, step);
      }
    }
  }
}

}  // namespace backprop::bench
