#include <atomic>
#include <condition_variable>
#include <mutex>

#include "tests/bench/rpc_bench.h"

namespace backprop::bench {
namespace {

// 10 MB of parameters: GetParameters, compared with an echo of the same number of bytes.
void TenMegabytes(const Options& options, const Connection& connection) {
  CreateModel(connection, "large", SpecOf(1024, {2048, 200}));
  v1::GetParametersRequest request;
  request.set_model("models/large");
  request.set_encoding(v1::TENSOR_ENCODING_RAW);
  v1::GetParametersResponse response;
  Payload payload;
  std::vector<double> ours, echo;
  for (int i = 0; i < (options.quick ? 1 : 301); ++i) {
    grpc::ClientContext context, echo_context;
    ours.push_back(Seconds([&] {
      Check(connection.training->GetParameters(&context, request, &response), "GetParameters");
    }));
    payload.set_reply_bytes(static_cast<int64_t>(response.ByteSizeLong()));
    Payload reply;
    echo.push_back(
        Seconds([&] { Check(connection.echo->Unary(&echo_context, payload, &reply), "Unary"); }));
  }
  Print("get_parameters_10mb", "", 1e6 * Quantile(ours, 0.5), "us");
  Print("get_parameters_10mb", "echo on the same server", 1e6 * Quantile(echo, 0.5), "us");
}

void ManyModels(const Options& options, const BenchServer& server, const Connection& connection) {
  const int count = options.quick ? 1000 : 100'000;
  constexpr int64_t kParameterBytes = (2 * 8 + 8 + 8 * 2 + 2) * 4;
  const int64_t before = server.ResidentBytes();
  const double seconds = CreateMany(connection, count);
  const int64_t bytes = (server.ResidentBytes() - before) / count - kParameterBytes;
  Print("models_100k_created", "", count / seconds, "/s");
  Print("models_100k_created", "the limit", 20'000, "/s");
  Print("models_100k_bytes_each", "", static_cast<double>(bytes), "bytes");
  Print("models_100k_bytes_each", "the limit", 2048, "bytes");
}

}  // namespace

double CreateMany(const Connection& connection, int count) {
  constexpr int kInFlight = 64;
  struct Call {
    std::unique_ptr<grpc::ClientContext> context;
    v1::CreateModelRequest request;
    v1::CreateModelResponse response;
  };
  std::vector<Call> calls(kInFlight);
  std::atomic<int> begun{0};
  std::mutex mu;
  std::condition_variable ended;
  int under_way = kInFlight;
  std::function<void(Call*)> next = [&](Call* call) {
    const int number = begun.fetch_add(1);
    if (number >= count) {
      const std::lock_guard lock(mu);
      --under_way;
      ended.notify_all();
      return;
    }
    call->context = std::make_unique<grpc::ClientContext>();
    call->request.set_model_id("tenant-" + std::to_string(number));
    connection.training->async()->CreateModel(call->context.get(), &call->request, &call->response,
                                              [&, call](const grpc::Status& status) {
                                                Check(status, "CreateModel");
                                                next(call);
                                              });
  };
  for (Call& call : calls) *call.request.mutable_spec() = SpecOf(2, {8, 2});
  return Seconds([&] {
    for (Call& call : calls) next(&call);
    std::unique_lock lock(mu);
    ended.wait(lock, [&] { return under_way == 0; });
  });
}

void ModelRows(const Options& options) {
  const bool large = Wanted(options, "get_parameters_10mb");
  const bool many =
      Wanted(options, "models_100k_created") || Wanted(options, "models_100k_bytes_each");
  if (!large && !many) return;
  const BenchServer server;
  const Connection connection(server.tcp());
  if (many) ManyModels(options, server, connection);
  if (large) TenMegabytes(options, connection);
}

}  // namespace backprop::bench
