// Every RPC with every role, and without any.
#include "server/rpc/permissions.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/rpc/call/authenticator.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

using auth::Role;
using google::protobuf::DescriptorPool;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

constexpr Role kRoles[] = {Role::kReader, Role::kWriter, Role::kAdmin, Role::kOperator};

std::string TokenOf(Role role) { return "bpt_" + std::string(49, *NameOf(role)); }

auth::AuthFile OneOfEachRole() {
  auth::AuthFile file;
  for (const Role role : kRoles) {
    file.principals.push_back({NameOf(role), "default", role, {auth::Sha256(TokenOf(role))}, {}});
  }
  return file;
}

class PermissionsTest : public ServiceTest {
 protected:
  PermissionsTest() {
    server = std::make_unique<TestServer>(
        base::Limits{}, "", 2, nullptr,
        [this](ServerOptions* options) { options->authenticator = &authenticator; });
  }
  ~PermissionsTest() override { server.reset(); }  // before the authenticator

  // Calls a method of any kind with one message, which no method can parse.
  grpc::Status CallWith(const std::string& method,
                        const std::optional<std::string>& authorization) {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    if (authorization.has_value()) call.AddMetadata("authorization", *authorization);
    using Factory = grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>;
    const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
        Factory::Create(
            server->channel.get(),
            grpc::internal::RpcMethod(method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING),
            &call));
    const grpc::Slice malformed("\xff\xff\xff");
    stream->Write(grpc::ByteBuffer(&malformed, 1));
    stream->WritesDone();
    grpc::ByteBuffer response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  }
  static std::string PathOf(const Permission& permission) {
    return absl::StrCat("/", permission.service, "/", permission.method);
  }

  base::SystemClock clock;
  Authenticator authenticator{OneOfEachRole(), &clock, nullptr};
};

TEST_F(PermissionsTest, EveryMethodAdmitsExactlyTheRolesOfTheTable) {
  for (const Permission& permission : Permissions()) {
    const std::string path = PathOf(permission);
    for (const Role role : kRoles) {
      const grpc::Status status = CallWith(path, "Bearer " + TokenOf(role));
      if (role >= permission.role) {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
            << path << " as " << NameOf(role) << ": " << status.error_message();
        continue;
      }
      // Before the request is parsed: it would be INVALID_ARGUMENT.
      EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED)
          << path << " as " << NameOf(role) << ": " << status.error_message();
      const google::rpc::ErrorInfo info = Info(status);
      EXPECT_EQ(info.reason(), "ROLE_TOO_LOW");
      EXPECT_EQ(info.metadata().at("method"), path.substr(1));
      EXPECT_EQ(info.metadata().at("required_role"), NameOf(permission.role));
      EXPECT_EQ(info.metadata().at("role"), NameOf(role));
    }
  }
}

TEST_F(PermissionsTest, NoMethodAdmitsACallWithoutValidCredentials) {
  for (const Permission& permission : Permissions()) {
    const std::string path = PathOf(permission);
    const grpc::Status without = CallWith(path, std::nullopt);
    EXPECT_EQ(without.error_code(), grpc::StatusCode::UNAUTHENTICATED) << path;
    EXPECT_EQ(Info(without).reason(), "NO_CREDENTIALS") << path;
    const std::string unknown = "bpt_" + std::string(49, 'x');
    const grpc::Status wrong = CallWith(path, "Bearer " + unknown);
    EXPECT_EQ(wrong.error_code(), grpc::StatusCode::UNAUTHENTICATED) << path;
    EXPECT_EQ(Info(wrong).reason(), "INVALID_TOKEN") << path;
    EXPECT_EQ(wrong.error_message().find("xxx"), std::string::npos);
  }
}

TEST_F(PermissionsTest, EveryoneMayAskForTheHealth) {
  const grpc::Status status = CallWith("/grpc.health.v1.Health/Check", std::nullopt);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
}

// Two calls of one client, the second after its token was revoked.
TEST_F(PermissionsTest, ARevokedTokenFailsAtTheNextCallAndTheCallUnderWayContinues) {
  grpc::ClientContext creation;
  creation.AddMetadata("authorization", "Bearer " + TokenOf(Role::kWriter));
  v1::CreateModelResponse created;
  ASSERT_TRUE(server->stub
                  ->CreateModel(&creation,
                                Json<v1::CreateModelRequest>(
                                    absl::StrCat(R"({"modelId":"m","spec":)", kXorSpec, "}")),
                                &created)
                  .ok());
  grpc::ClientContext open;
  open.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  open.AddMetadata("authorization", "Bearer " + TokenOf(Role::kWriter));
  const auto stream = server->stub->StepStream(&open);
  v1::StepStreamRequest request;
  *request.mutable_step() =
      Json<v1::StepRequest>(absl::StrCat(R"({"model":"models/m","batch":)", kXorBatch, "}"));
  v1::StepStreamResponse response;
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  auth::AuthFile others = OneOfEachRole();
  others.principals.erase(others.principals.begin() + 1);
  authenticator.Replace(std::move(others));
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.step().step(), 2);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Info(CallWith("/backprop.v1.TrainingService/Step", "Bearer " + TokenOf(Role::kWriter)))
                .reason(),
            "INVALID_TOKEN");
}

TEST(PermissionsTableTest, EveryMethodOfTheContractHasARow) {
  for (const char* service :
       {"backprop.v1.TrainingService", "backprop.v1.AdminService", "grpc.channelz.v1.Channelz",
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}) {
    const ServiceDescriptor* const found =
        DescriptorPool::generated_pool()->FindServiceByName(service);
    ASSERT_NE(found, nullptr) << service;
    for (int i = 0; i < found->method_count(); ++i) {
      EXPECT_NE(FindPermission(service, found->method(i)->name()), nullptr)
          << found->method(i)->full_name();
    }
  }
  std::set<std::string> rows;
  for (const Permission& row : Permissions()) {
    EXPECT_TRUE(rows.insert(absl::StrCat(row.service, ".", row.method)).second) << row.method;
    EXPECT_NE(DescriptorPool::generated_pool()->FindMethodByName(
                  absl::StrCat(row.service, ".", row.method)),
              nullptr)
        << row.method;
  }
}

// A request that changes something has a request_id, so the contract tells what readers may not
// call.
TEST(PermissionsTableTest, ReadersMayCallWhatChangesNothing) {
  const std::set<std::string> changes_by_stream = {"StepStream", "UploadDataset"};
  const auto* const service =
      DescriptorPool::generated_pool()->FindServiceByName("backprop.v1.TrainingService");
  for (int i = 0; i < service->method_count(); ++i) {
    const MethodDescriptor* const method = service->method(i);
    const bool changes = method->input_type()->FindFieldByName("request_id") != nullptr ||
                         changes_by_stream.count(method->name()) != 0;
    EXPECT_EQ(FindPermission(service->full_name(), method->name())->role,
              changes ? Role::kWriter : Role::kReader)
        << method->name();
  }
}

}  // namespace
}  // namespace backprop::rpc
