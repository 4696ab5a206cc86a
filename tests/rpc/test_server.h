// A real server on a free port of the loopback interface, with a clock that tests control.
#ifndef BACKPROP_TESTS_RPC_TEST_SERVER_H_
#define BACKPROP_TESTS_RPC_TEST_SERVER_H_

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backprop/v1/training_service.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/base/clock.h"
#include "server/base/limits.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/server.h"
#include "server/store/memory_store.h"

namespace backprop::rpc {

class TurnedClock final : public base::Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_.load()); }
  void Advance(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> nanos_{1'700'000'000'000'000'000};
};

struct TestServer {
  // Without a `store` models are only in memory. `adjust` changes the options of the server.
  explicit TestServer(base::Limits limits = {}, std::string unix_socket = "", int threads = 2,
                      store::Store* store = nullptr,
                      const std::function<void(ServerOptions*)>& adjust = {})
      : pool(std::make_unique<exec::ComputePool>(threads)),
        environment{pool.get(), &clock, limits, {}, store, store != nullptr ? store : &archive, {}},
        datasets(&environment, testing::TempDir()),
        registry(&environment),
        context{&environment, &registry, &datasets, {}} {
    environment.row_source = &datasets;
    if (store != nullptr && !(datasets.Open().ok() && registry.Open().ok())) {
      throw std::runtime_error("the store cannot be read");
    }
    ServerOptions options{{"127.0.0.1:0"}, std::move(unix_socket), {}};
    if (adjust) adjust(&options);
    auto started = Server::Start(options, &context);
    if (!started.ok()) throw std::runtime_error(started.status().ToString());
    server = *std::move(started);
    address = server->addresses().front();
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    stub = v1::TrainingService::NewStub(channel);
  }
  ~TestServer() {
    server->Stop(absl::Seconds(10));
    store::WaitForAnswers(environment.archive);
    pool.reset();
    store::WaitForAnswers(environment.archive);
  }

  TurnedClock clock;
  store::MemoryStore archive;
  std::unique_ptr<exec::ComputePool> pool;
  session::Environment environment;
  datasets::Datasets datasets;
  registry::Registry registry;
  Context context;
  std::unique_ptr<Server> server;
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::TrainingService::Stub> stub;
};

// Parses a message from JSON.
template <class Message>
Message Json(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << status.ToString() << "\n" << json;
  return message;
}

// Returns the details of an error.
inline std::vector<google::rpc::BadRequest::FieldViolation> Violations(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& any : details.details()) {
    google::rpc::BadRequest bad_request;
    if (any.UnpackTo(&bad_request)) {
      return {bad_request.field_violations().begin(), bad_request.field_violations().end()};
    }
  }
  return {};
}
inline google::rpc::ErrorInfo Info(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  google::rpc::ErrorInfo info;
  for (const auto& any : details.details()) any.UnpackTo(&info);
  return info;
}

class ServiceTest : public testing::Test {
 protected:
  // Calls a unary RPC: Call(&Stub::Step, request, &response).
  template <class Request, class Response>
  grpc::Status Call(grpc::Status (v1::TrainingService::Stub::*method)(grpc::ClientContext*,
                                                                      const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    response->Clear();
    return (server->stub.get()->*method)(&call, request, response);
  }

  // Calls Train and reads all events; returns them and the status of the call.
  grpc::Status Train(const v1::TrainRequest& request, std::vector<v1::TrainingEvent>* events) {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    const auto reader = server->stub->Train(&call, request);
    v1::TrainResponse response;
    while (reader->Read(&response)) events->push_back(response.event());
    return reader->Finish();
  }

  v1::Model CreateModel(const std::string& id, const std::string& spec) {
    v1::CreateModelResponse response;
    const auto status =
        Call(&Stub::CreateModel,
             Json<v1::CreateModelRequest>(R"({"modelId":")" + id + R"(","spec":)" + spec + "}"),
             &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.model();
  }
  v1::Model GetModel(const std::string& id) {
    v1::GetModelRequest request;
    request.set_name("models/" + id);
    v1::GetModelResponse response;
    EXPECT_TRUE(Call(&Stub::GetModel, request, &response).ok());
    return response.model();
  }
  std::string ParametersOf(const std::string& id) {
    v1::GetParametersRequest request;
    request.set_model("models/" + id);
    request.set_encoding(v1::TENSOR_ENCODING_RAW);
    v1::GetParametersResponse response;
    EXPECT_TRUE(Call(&Stub::GetParameters, request, &response).ok());
    return response.parameters().SerializeAsString();
  }

  // Creates a model, and a step that is too large to be made on gRPC's threads.
  static constexpr char kLargeSpec[] = R"({"inputSize":200,"layers":[{"units":200},{"units":2}]})";
  static v1::StepRequest LargeStepOn(const std::string& id) {
    v1::StepRequest step;
    step.set_model("models/" + id);
    for (int i = 0; i < 200 * 20; ++i) step.mutable_batch()->mutable_inputs()->add_values(0.5);
    for (int i = 0; i < 20; ++i) step.mutable_batch()->mutable_labels()->add_values(i % 2);
    return step;
  }

  using Stub = v1::TrainingService::Stub;
  static constexpr char kXorSpec[] =
      R"({"inputSize":2,"layers":[{"units":8},{"units":2}],"optimizer":{"sgd":{"learningRate":0.1}}})";
  static constexpr char kXorBatch[] =
      R"({"inputs":{"values":[0,0,0,1,1,0,1,1]},"labels":{"values":[0,1,1,0]}})";

  std::unique_ptr<TestServer> server = std::make_unique<TestServer>();
};

}  // namespace backprop::rpc

#endif  // BACKPROP_TESTS_RPC_TEST_SERVER_H_
