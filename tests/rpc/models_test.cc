// CreateModel, GetModel, ListModels, DeleteModel, health and reflection.
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <set>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/base/clock.h"
#include "server/exec/compute_pool.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

using ModelsTest = ServiceTest;

TEST_F(ModelsTest, AModelIsDescribedWithItsDefaults) {
  const v1::Model model = CreateModel("m", R"({"inputSize":3,"layers":[{"units":4},
      {"units":5,"activation":"ACTIVATION_TANH"},{"units":2}],"classNames":["a","b"],"seed":7})");
  EXPECT_EQ(model.name(), "models/m");
  EXPECT_EQ(model.parameter_count(), 4 * 4 + 5 * 5 + 6 * 2);
  EXPECT_EQ(model.spec().layers(0).activation(), v1::ACTIVATION_RELU);
  for (const v1::Layer& layer : model.spec().layers()) {
    EXPECT_EQ(layer.initializer(), v1::INITIALIZER_PYTORCH_LINEAR);
    EXPECT_EQ(layer.bias_initializer(), v1::INITIALIZER_PYTORCH_LINEAR);
  }
  EXPECT_EQ(model.spec().layers(2).activation(), v1::ACTIVATION_IDENTITY);
  EXPECT_TRUE(model.spec().loss().has_softmax_cross_entropy());
  EXPECT_EQ(model.spec().optimizer().sgd().learning_rate(), 1e-3);
  EXPECT_EQ(model.spec().data_type(), v1::DATA_TYPE_FLOAT32);
  EXPECT_EQ(model.spec().seed(), 7U);
  EXPECT_EQ(model.spec().class_names(1), "b");
  EXPECT_EQ(model.create_time().seconds(), 1'700'000'000);
  EXPECT_EQ(GetModel("m").SerializeAsString(), model.SerializeAsString());
  // The description can be used to create the model again.
  v1::CreateModelRequest again;
  *again.mutable_spec() = model.spec();
  again.set_model_id("again");
  v1::CreateModelResponse response;
  ASSERT_TRUE(Call(&Stub::CreateModel, again, &response).ok());
  EXPECT_EQ(response.model().spec().SerializeAsString(), model.spec().SerializeAsString());
  EXPECT_EQ(ParametersOf("again"), ParametersOf("m"));
}

// With an explicit initialiser, biases start at 0, and the description is the same as before biases
// had an initialiser.
TEST_F(ModelsTest, AGivenInitializerKeepsBiasesAtZero) {
  const v1::Model model = CreateModel("m", R"({"inputSize":3,"layers":[
      {"units":4,"initializer":"INITIALIZER_HE_NORMAL"},
      {"units":2,"initializer":"INITIALIZER_ZEROS","biasInitializer":"INITIALIZER_CONSTANT",
       "initialBias":0.25}]})");
  EXPECT_EQ(model.spec().layers(0).initializer(), v1::INITIALIZER_HE_NORMAL);
  EXPECT_EQ(model.spec().layers(0).bias_initializer(), v1::INITIALIZER_UNSPECIFIED);
  EXPECT_EQ(model.spec().layers(1).bias_initializer(), v1::INITIALIZER_CONSTANT);
  EXPECT_EQ(model.spec().layers(1).initial_bias(), 0.25);
  v1::GetParametersResponse parameters;
  ASSERT_TRUE(Call(&Stub::GetParameters, Json<v1::GetParametersRequest>(R"({"model":"models/m"})"),
                   &parameters)
                  .ok());
  const auto& tensors = parameters.parameters().tensors();
  for (double bias : tensors[1].tensor().values()) EXPECT_EQ(bias, 0);
  for (double bias : tensors[3].tensor().values()) EXPECT_EQ(bias, 0.25);
}

// This server has no data directory.
TEST_F(ModelsTest, OnlyWhatCanBeKeptIsPromised) {
  v1::CreateModelRequest request =
      Json<v1::CreateModelRequest>(R"({"spec":)" + std::string(kXorSpec) + "}");
  v1::CreateModelResponse response;
  ASSERT_TRUE(Call(&Stub::CreateModel, request, &response).ok());
  EXPECT_EQ(response.model().durability(), v1::DURABILITY_NONE);
  request.set_durability(v1::DURABILITY_NONE);
  ASSERT_TRUE(Call(&Stub::CreateModel, request, &response).ok());
  for (const auto durability : {v1::DURABILITY_SYNC, v1::DURABILITY_EVERY_SECOND}) {
    request.set_durability(durability);
    const grpc::Status status = Call(&Stub::CreateModel, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
  request.set_durability(static_cast<v1::Durability>(4));
  EXPECT_EQ(Call(&Stub::CreateModel, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(server->registry.size(), 2);
}

TEST_F(ModelsTest, ARetriedCreateGetsTheFirstAnswerAlsoLater) {
  const auto request =
      Json<v1::CreateModelRequest>(R"({"spec":)" + std::string(kXorSpec) +
                                   R"(,"requestId":"r","labels":{"a":"1","b":"2","c":"3"}})");
  v1::CreateModelResponse first, retry;
  ASSERT_TRUE(Call(&Stub::CreateModel, request, &first).ok());
  v1::StepRequest step = Json<v1::StepRequest>(R"({"batch":)" + std::string(kXorBatch) + "}");
  step.set_model(first.model().name());
  v1::StepResponse stepped;
  ASSERT_TRUE(Call(&Stub::Step, step, &stepped).ok());
  ASSERT_TRUE(Call(&Stub::CreateModel, request, &retry).ok());
  EXPECT_EQ(retry.model().name(), first.model().name());
  EXPECT_EQ(retry.model().step(), 0);
  EXPECT_EQ(server->registry.size(), 1);
}

TEST_F(ModelsTest, ListsByNameFilteredByLabelsInPages) {
  for (int i = 0; i < 25; ++i) {
    v1::CreateModelResponse response;
    ASSERT_TRUE(Call(&Stub::CreateModel,
                     Json<v1::CreateModelRequest>(R"({"modelId":"m)" + std::to_string(10 + i) +
                                                  R"(","spec":)" + std::string(kXorSpec) +
                                                  R"(,"labels":{"parity":")" +
                                                  (i % 2 ? "odd" : "even") + R"(","all":"yes"}})"),
                     &response)
                    .ok());
  }
  const auto list = [&](const std::string& fields) {
    std::vector<std::string> names;
    std::string token;
    do {
      auto request = Json<v1::ListModelsRequest>("{" + fields + "}");
      request.set_page_token(token);
      v1::ListModelsResponse page;
      EXPECT_TRUE(Call(&Stub::ListModels, request, &page).ok());
      EXPECT_LE(page.models_size(), 10);
      for (const auto& model : page.models()) names.push_back(model.name());
      token = page.next_page_token();
    } while (!token.empty());
    return names;
  };
  const auto all = list(R"("pageSize":10)");
  EXPECT_EQ(all.size(), 25U);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_EQ(list(R"("pageSize":5)"), all) << "five full pages, then no token";
  EXPECT_EQ(list(R"("pageSize":10,"labels":{"parity":"odd","all":"yes"})").size(), 12U);
  EXPECT_EQ(list(R"("pageSize":10,"labels":{"parity":"none"})").size(), 0U);
}

TEST_F(ModelsTest, DeleteIsFinalAndItsRetrySucceeds) {
  CreateModel("m", kXorSpec);
  const auto request = Json<v1::DeleteModelRequest>(R"({"name":"models/m","requestId":"d"})");
  v1::DeleteModelResponse response;
  EXPECT_TRUE(Call(&Stub::DeleteModel, request, &response).ok());
  EXPECT_TRUE(Call(&Stub::DeleteModel, request, &response).ok());
  v1::GetModelResponse get;
  EXPECT_EQ(
      Call(&Stub::GetModel, Json<v1::GetModelRequest>(R"({"name":"models/m"})"), &get).error_code(),
      grpc::StatusCode::NOT_FOUND);
}

TEST_F(ModelsTest, TtlIsShownAndExpires) {
  v1::CreateModelResponse response;
  ASSERT_TRUE(Call(&Stub::CreateModel,
                   Json<v1::CreateModelRequest>(R"({"modelId":"m","ttl":"1.5s","spec":)" +
                                                std::string(kXorSpec) + "}"),
                   &response)
                  .ok());
  EXPECT_EQ(response.model().ttl().nanos(), 500'000'000);
  EXPECT_EQ(response.model().expire_time().nanos(), 500'000'000);
  server->clock.Advance(absl::Milliseconds(1499));
  EXPECT_EQ(server->registry.ExpireIdle(), 0);
  server->clock.Advance(absl::Milliseconds(1));
  EXPECT_EQ(server->registry.ExpireIdle(), 1);
}

TEST_F(ModelsTest, HealthAnswersPerServiceAndTurnsWhileDraining) {
  const auto health = grpc::health::v1::Health::NewStub(server->channel);
  using Response = grpc::health::v1::HealthCheckResponse;
  const auto check = [&](const std::string& service) {
    grpc::ClientContext call;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    Response response;
    const auto status = health->Check(&call, request, &response);
    return status.ok() ? static_cast<int>(response.status())
                       : -static_cast<int>(status.error_code());
  };
  EXPECT_EQ(check(""), Response::SERVING);
  EXPECT_EQ(check("backprop.v1.TrainingService"), Response::SERVING);
  EXPECT_EQ(check("other"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  // A watcher sees the change, and does not delay the stop of the server.
  grpc::ClientContext watching;
  const auto watch = health->Watch(&watching, {});
  Response response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVING);
  EXPECT_TRUE(server->server->Stop(absl::Seconds(10)));
  EXPECT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::NOT_SERVING);
}

TEST_F(ModelsTest, AnUnknownMethodIsUnimplemented) {
  grpc::GenericStub generic(server->channel);
  grpc::ClientContext call;
  grpc::CompletionQueue queue;
  grpc::ByteBuffer request, response;
  const auto rpc =
      generic.PrepareUnaryCall(&call, "/backprop.v1.TrainingService/Guess", request, &queue);
  rpc->StartCall();
  grpc::Status status;
  rpc->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ModelsTest, APortOrSocketInUseIsRefusedWithAdvice) {
  exec::ComputePool pool(1);
  base::SystemClock clock;
  session::Environment environment{&pool, &clock, {}, {}, {}, {}, {}};
  datasets::Datasets datasets(&environment, "");
  registry::Registry registry(&environment);
  Context context{&environment, &registry, &datasets, {}};
  const auto same_port = Server::Start({{server->address}, "", {}}, &context);
  EXPECT_NE(same_port.status().message().find("cannot listen"), absl::string_view::npos);
  const std::string path = testing::TempDir() + "bp_models_test.sock";
  const auto first = Server::Start({{}, path, {}}, &context);
  ASSERT_TRUE(first.ok()) << first.status();
  registry::Registry other(&environment);
  Context other_context{&environment, &other, &datasets, {}};
  const auto second = Server::Start({{}, path, {}}, &other_context);
  EXPECT_NE(second.status().message().find("another server listens on this path"),
            absl::string_view::npos);
  const auto missing = Server::Start({{}, "/nonexistent/x.sock", {}}, &other_context);
  EXPECT_NE(missing.status().message().find("check that its directory is writable"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace backprop::rpc
