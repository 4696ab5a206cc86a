// What Step costs beside a bare echo of the same payload on the same server process: medians of
// calls made in turn, over TCP and a unix socket. Usage: bp_bench_step_latency [calls]
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backprop/v1/training_service.grpc.pb.h"
#include "echo.grpc.pb.h"
#include "server/rpc/server.h"
#include "server/session/compute_pool.h"

namespace backprop {
namespace {

class EchoService final : public bench::Echo::CallbackService {
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context,
                                  const bench::Payload* request,
                                  bench::Payload* response) override {
    response->set_data(request->data());
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

template <class Call>
double Microseconds(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  const grpc::Status status = call();
  const auto end = std::chrono::steady_clock::now();
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.error_message().c_str());
    std::exit(1);
  }
  return std::chrono::duration<double, std::micro>(end - begin).count();
}

v1::StepRequest XorStep(int rows) {
  v1::StepRequest request;
  request.set_model("models/xor");
  std::vector<float> inputs;
  std::vector<int32_t> labels;
  for (int i = 0; i < rows; ++i) {
    inputs.push_back(static_cast<float>(i % 17) / 8 - 1);
    inputs.push_back(static_cast<float>(i % 13) / 6 - 1);
    labels.push_back(i % 2);
  }
  v1::Batch* batch = request.mutable_batch();
  batch->mutable_inputs()->set_raw(inputs.data(), inputs.size() * sizeof(float));
  batch->mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  batch->mutable_labels()->set_raw(labels.data(), labels.size() * sizeof(int32_t));
  batch->mutable_labels()->set_data_type(v1::DATA_TYPE_INT32);
  return request;
}

void Measure(const std::string& address, int rows, int calls) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto training = v1::TrainingService::NewStub(channel);
  const auto echo = bench::Echo::NewStub(channel);
  const v1::StepRequest step = XorStep(rows);
  bench::Payload payload;
  payload.set_data(std::string(step.ByteSizeLong(), 'x'));
  std::vector<double> steps, echoes;
  for (int i = 0; i < calls; ++i) {
    v1::StepResponse stepped;
    bench::Payload echoed;
    const double step_us = Microseconds([&] {
      grpc::ClientContext context;
      return training->Step(&context, step, &stepped);
    });
    const double echo_us = Microseconds([&] {
      grpc::ClientContext context;
      return echo->Unary(&context, payload, &echoed);
    });
    if (i < calls / 10) continue;  // warm up
    steps.push_back(step_us);
    echoes.push_back(echo_us);
  }
  std::printf(
      "%-6s %5d rows %6zu bytes   step p50 %6.1f p99 %6.1f us   echo p50 %6.1f p99 %6.1f us   "
      "p50 ratio %.2f\n",
      address.rfind("unix", 0) == 0 ? "unix" : "tcp", rows, step.ByteSizeLong(),
      Quantile(steps, 0.5), Quantile(steps, 0.99), Quantile(echoes, 0.5), Quantile(echoes, 0.99),
      Quantile(steps, 0.5) / Quantile(echoes, 0.5));
}

int Main(int calls) {
  session::ComputePool pool(2);
  session::SystemClock clock;
  session::Environment environment{&pool, &clock, {}, {}, {}, {}};
  session::Registry registry(&environment);
  rpc::Context context{&environment, &registry, {}, {}, {}};
  EchoService echo;
  const std::string path = "/tmp/bp_bench_" + std::to_string(getpid()) + ".sock";
  const auto server = rpc::Server::Start({{"127.0.0.1:0"}, path, {&echo}}, &context);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  v1::CreateModelRequest create;
  create.set_model_id("xor");
  create.mutable_spec()->set_input_size(2);
  create.mutable_spec()->add_layers()->set_units(8);
  create.mutable_spec()->add_layers()->set_units(2);
  v1::CreateModelResponse created;
  grpc::ClientContext call;
  const auto stub = v1::TrainingService::NewStub(
      grpc::CreateChannel((*server)->addresses()[0], grpc::InsecureChannelCredentials()));
  if (!stub->CreateModel(&call, create, &created).ok()) return 1;
  for (const std::string& address : (*server)->addresses()) {
    for (int rows : {1, 32, 200}) Measure(address, rows, calls);
  }
  return 0;
}

}  // namespace
}  // namespace backprop

int main(int argc, char** argv) { return backprop::Main(argc > 1 ? std::atoi(argv[1]) : 20000); }
