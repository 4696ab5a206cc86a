#include "tests/bench/bench_server.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/ops/auth_file_watch.h"
#include "server/ops/process_memory.h"
#include "server/records/tables.h"
#include "server/rpc/server.h"
#include "server/rpc/tls.h"
#include "server/session/metered_store.h"
#include "server/store/memory_store.h"
#include "server/store/rocks_store.h"

namespace backprop::bench {
namespace {

class StreamEcho final : public grpc::ServerBidiReactor<Payload, Payload> {
 public:
  StreamEcho() { StartRead(&payload_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    StartWrite(&payload_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    StartRead(&payload_);
  }
  void OnDone() override { delete this; }

 private:
  Payload payload_;
};

class EchoService final : public Echo::CallbackService {
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, const Payload* request,
                                  Payload* response) override {
    if (request->reply_bytes() > 0) {
      response->mutable_data()->resize(static_cast<size_t>(request->reply_bytes()), 'x');
    } else {
      response->set_data(request->data());
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerBidiReactor<Payload, Payload>* Stream(grpc::CallbackServerContext*) override {
    return new StreamEcho;
  }
};

}  // namespace

int Serve(char** arguments) {
  const ServerKind kind{arguments[0],           std::atoll(arguments[1]),
                        arguments[2][0] == '1', arguments[3],
                        arguments[4],           arguments[5]};
  const std::string& data_dir = kind.data_dir;
  const int64_t memory_limit = kind.memory_limit;
  spdlog::set_level(spdlog::level::off);  // standard output has the addresses
  // As in the server.
  ops::TuneAllocator(memory_limit, static_cast<int>(std::thread::hardware_concurrency()));
  constexpr int64_t kStoreBytes = int64_t{256} << 20;
  const int64_t store_bytes =
      memory_limit == 0 ? kStoreBytes : ops::StoreShare(memory_limit, kStoreBytes);
  base::SystemClock clock;
  std::unique_ptr<store::Store> store;
  if (!data_dir.empty()) {
    store::RocksOptions options;
    options.directory = data_dir;
    options.schema = records::kSchema;
    options.memory_bytes = store_bytes;
    auto opened = store::OpenRocksStore(options);
    if (!opened.ok()) {
      std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
      return 1;
    }
    store = *std::move(opened);
  }
  store::MemoryStore memory;
  store::Store* const archive = store != nullptr ? store.get() : &memory;
  auto pool =
      std::make_unique<exec::ComputePool>(static_cast<int>(std::thread::hardware_concurrency()));
  session::Environment environment{pool.get(), &clock, {}, {}, store.get(), archive, nullptr};
  session::MeteredStore metered(archive, &environment.projects, {});
  if (store != nullptr) environment.store = &metered;
  environment.archive = &metered;
  if (!metered.Open().ok()) return 1;
  environment.limits.memory_limit_bytes = memory_limit;
  environment.limits.memory_fixed_bytes = ops::kProcessBytes + store_bytes;
  datasets::Datasets datasets(&environment, data_dir);
  environment.row_source = &datasets;
  registry::Registry registry(&environment);
  if (const auto opened = datasets.Open(); !opened.ok()) return 1;
  if (const auto found = registry.Open(); !found.ok()) {
    std::fprintf(stderr, "%s\n", found.status().ToString().c_str());
    return 1;
  }
  rpc::Context context{
      &environment, &registry, &datasets,
      rpc::Calls({}, kind.counts_calls ? std::make_unique<rpc::CallStats>() : nullptr)};
  EchoService echo;
  const std::string path = "/tmp/bp_bench_" + std::to_string(getpid()) + ".sock";
  rpc::ServerOptions server_options{{"127.0.0.1:0"}, path, {&echo}};
  server_options.transport.max_concurrent_streams = 1024;  // durable_step_512 is on one connection
  server_options.overload.max_active_calls = 4096;
  server_options.overload.max_active_calls_per_project = rpc::OverloadLimits::kAsManyAsAreFree;
  server_options.overload.delay_target = absl::Milliseconds(20);
  std::unique_ptr<rpc::Tls> tls;
  if (!kind.certificate.empty()) {
    tls = *rpc::Tls::Open({kind.certificate, kind.key, "", rpc::ClientAuth::kNone});
    server_options.tls = tls.get();
  }
  std::unique_ptr<ops::AuthFileWatch> auth_file;
  if (!kind.auth_file.empty()) {
    auth_file = *ops::AuthFileWatch::Open(kind.auth_file, &clock);
    server_options.authenticator = auth_file->authenticator();
  }
  const auto server = rpc::Server::Start(server_options, &context);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  for (const std::string& address : (*server)->addresses()) std::printf("%s\n", address.c_str());
  std::fflush(stdout);
  while (getchar() != EOF) {
  }
  (*server)->Stop(absl::ZeroDuration());
  pool.reset();
  if (store != nullptr) store::WaitForAnswers(store.get());
  return 0;
}

BenchServer::BenchServer(const ServerKind& kind) {
  int input[2], output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) {
    std::perror("pipe");
    std::exit(1);
  }
  const std::string limit = std::to_string(kind.memory_limit);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input[0], 0);
    dup2(output[1], 1);
    for (int fd : {input[0], input[1], output[0], output[1]}) close(fd);
    execl("/proc/self/exe", "bench", kServe, kind.data_dir.c_str(), limit.c_str(),
          kind.counts_calls ? "1" : "0", kind.auth_file.c_str(), kind.certificate.c_str(),
          kind.key.c_str(), nullptr);
    std::perror("exec");
    _exit(1);
  }
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  FILE* addresses = fdopen(output[0], "r");
  char line[256];
  for (std::string* address : {&tcp_, &unix_}) {
    if (std::fgets(line, sizeof line, addresses) == nullptr) {
      std::fprintf(stderr, "the server did not start\n");
      std::exit(1);
    }
    *address = line;
    address->pop_back();
  }
  std::fclose(addresses);
}

void BenchServer::Kill() { kill(pid_, SIGKILL); }

BenchServer::~BenchServer() {
  close(input_);
  waitpid(pid_, nullptr, 0);
}

int64_t BenchServer::ResidentBytes() const {
  std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t BenchServer::WrittenBytes() const {
  std::ifstream io("/proc/" + std::to_string(pid_) + "/io");
  std::string name;
  int64_t value = 0;
  while (io >> name >> value) {
    if (name == "write_bytes:") return value;
  }
  return 0;
}

Connection::Connection(const std::string& address,
                       const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel = grpc::CreateCustomChannel(address, credentials, arguments);
  training = v1::TrainingService::NewStub(channel);
  echo = Echo::NewStub(channel);
}

void Check(const grpc::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, status.error_message().c_str());
  std::exit(1);
}

v1::ModelSpec SpecOf(int inputs, std::initializer_list<int> units) {
  v1::ModelSpec spec;
  spec.set_input_size(inputs);
  for (int u : units) spec.add_layers()->set_units(u);
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-3);
  return spec;
}

void CreateModel(const Connection& connection, const std::string& id, const v1::ModelSpec& spec) {
  v1::CreateModelRequest request;
  request.set_model_id(id);
  *request.mutable_spec() = spec;
  v1::CreateModelResponse response;
  grpc::ClientContext context;
  Check(connection.training->CreateModel(&context, request, &response), "CreateModel");
}

v1::Batch BatchOf(int rows, int inputs, int classes) {
  std::vector<float> x;
  std::vector<int32_t> labels;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < inputs; ++j)
      x.push_back(static_cast<float>((i * 31 + j * 17) % 23) / 11 - 1);
    labels.push_back(i % classes);
  }
  v1::Batch batch;
  batch.mutable_inputs()->set_raw(x.data(), x.size() * sizeof(float));
  batch.mutable_inputs()->set_data_type(v1::DATA_TYPE_FLOAT32);
  batch.mutable_labels()->set_raw(labels.data(), labels.size() * sizeof(int32_t));
  batch.mutable_labels()->set_data_type(v1::DATA_TYPE_INT32);
  return batch;
}

}  // namespace backprop::bench
