// The C++ client with TLS and tokens.
#include "backprop/security.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "backprop/client.h"
#include "client/backprop/proxy.h"
#include "tests/rpc/test_certificates.h"
#include "tests/rpc/test_server.h"
#include "tests/temporary_directory.h"

namespace backprop {
namespace {

using rpc::TestCertificate;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

ClientOptions Impatient() { return {.retry = {.max_attempts = 1}}; }

Batch OneRow() {
  Batch row;
  row.inputs = Tensor(1, 2, std::vector<float>{0.0F, 1.0F});
  row.labels = {0};
  return row;
}

// One call of each kind; returns their statuses.
std::vector<Status> CallEverything(Client* client) {
  std::vector<Status> all;
  all.push_back(client->GetModel("m").status());
  all.push_back(client->Train("m", OneRow(), {.iterations = 1}).status());
  all.push_back(client->UploadDataset("d", OneRow()).status());
  all.push_back(client->ExportModel("m", [](std::string_view) { return true; }));
  StepStream stream = client->OpenStepStream("m");
  stream.Send(OneRow());
  stream.DoneSending();
  while (stream.Receive().has_value()) {
  }
  all.push_back(stream.Finish());
  return all;
}

class ClientTlsTest : public testing::Test {
 protected:
  ClientTlsTest() {
    for (const auto& [name, certificate] :
         {std::pair("server", &server), std::pair("client", &client),
          std::pair("stranger", &stranger), std::pair("authority", &authority)}) {
      rpc::WriteFile(Path(name) + ".pem", certificate->certificate());
      rpc::WriteFile(Path(name) + ".key", certificate->key());
    }
    tls = *rpc::Tls::Open({Path("server.pem"), Path("server.key"), Path("authority.pem"),
                           rpc::ClientAuth::kOptional});
    started.emplace(base::Limits{}, "", 2, nullptr,
                    [this](rpc::ServerOptions* options) { options->tls = tls.get(); });
  }
  std::string Path(const std::string& name) const { return folder.path() + "/" + name; }
  // The status of a call with these options.
  Status Try(const TlsOptions& options) {
    ClientOptions with = Impatient();
    with.tls = options;
    return Client(started->address, with).ListModels().status();
  }

  TemporaryDirectory folder;
  const TestCertificate authority{{.common_name = "authority", .authority = true}};
  const TestCertificate server{{.common_name = "server"}, &authority};
  const TestCertificate client{{.common_name = "client"}, &authority};
  const TestCertificate stranger{{.common_name = "stranger"}};
  std::unique_ptr<rpc::Tls> tls;
  std::optional<rpc::TestServer> started;
};

TEST_F(ClientTlsTest, TheServerIsVerified) {
  EXPECT_TRUE(Try({.ca_file = Path("authority.pem")}).ok());
  EXPECT_TRUE(Try({.ca_pem = authority.certificate()}).ok());
  EXPECT_TRUE(Try({.ca_file = "/nonexistent", .ca_pem = authority.certificate()}).ok());
  EXPECT_EQ(Try({}).code, StatusCode::kUnavailable);
  EXPECT_EQ(Try({.ca_file = Path("stranger.pem")}).code, StatusCode::kUnavailable);
  const auto other_name = Try({.ca_file = Path("authority.pem"), .server_name = "other"});
  EXPECT_EQ(other_name.code, StatusCode::kUnavailable);
  EXPECT_TRUE(Try({.ca_file = Path("authority.pem"), .server_name = "localhost"}).ok());
}

TEST_F(ClientTlsTest, TheClientPresentsItsCertificate) {
  const auto with = [&](const std::string& name) {
    return Try({.ca_file = Path("authority.pem"),
                .certificate_file = Path(name + ".pem"),
                .key_file = Path(name + ".key")});
  };
  EXPECT_TRUE(with("client").ok()) << with("client").ToString();
  EXPECT_EQ(with("stranger").code, StatusCode::kUnavailable);
}

TEST_F(ClientTlsTest, AClientWithoutTlsIsRefused) {
  EXPECT_EQ(Client(started->address, Impatient()).ListModels().status().code,
            StatusCode::kUnavailable);
}

TEST_F(ClientTlsTest, FilesThatCannotBeUsedFailEveryCall) {
  rpc::WriteFile(Path("empty"), "");
  rpc::WriteFile(Path("text"), "hello");
  rpc::WriteFile(Path("locked.key"), client.key("secret"));
  const struct {
    TlsOptions options;
    std::string message;
  } cases[] = {
      {{.ca_file = Path("none")}, Path("none") + ": No such file or directory"},
      {{.ca_file = folder.path()}, folder.path() + ": is not a regular file"},
      {{.ca_file = Path("empty")}, Path("empty") + ": is empty"},
      {{.ca_file = Path("text")}, Path("text") + ": holds no certificate"},
      {{.ca_pem = "hello"}, "ca_pem: holds no certificate"},
      {{.certificate_file = Path("client.pem")}, "must be given together"},
      {{.certificate_file = Path("client.pem"), .key_file = Path("stranger.key")},
       Path("stranger.key") + ": is not the key of the certificate in " + Path("client.pem")},
      {{.certificate_file = Path("client.pem"), .key_file = Path("locked.key")},
       Path("locked.key") + ": holds no private key in PEM, or one that is encrypted"},
      {{.certificate_file = Path("client.key"), .key_file = Path("client.key")},
       Path("client.key") + ": holds no certificate"},
  };
  for (const auto& one : cases) {
    ClientOptions with;
    with.tls = one.options;
    Client lame(started->address, with);
    EXPECT_THAT(
        CallEverything(&lame),
        AllOf(SizeIs(5), Each(AllOf(testing::Field(&Status::code, StatusCode::kFailedPrecondition),
                                    testing::Field(&Status::message, HasSubstr(one.message))))));
  }
}

// What a server received.
class Log {
 public:
  void Add(const std::string& line) {
    const std::lock_guard<std::mutex> lock(mu_);
    lines_.push_back(line);
  }
  // Returns the lines since the last call.
  std::vector<std::string> Take() {
    const std::lock_guard<std::mutex> lock(mu_);
    return std::exchange(lines_, {});
  }

 private:
  std::mutex mu_;
  std::vector<std::string> lines_;
};

// Records the authorization of every call.
class Recorder final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Recorder(Log* seen) : seen_(seen) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* /*info*/) override {
    return new One(seen_);
  }

 private:
  class One final : public grpc::experimental::Interceptor {
   public:
    explicit One(Log* seen) : seen_(seen) {}
    void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
      using grpc::experimental::InterceptionHookPoints;
      if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
        std::string all;
        const auto [begin, end] = methods->GetRecvInitialMetadata()->equal_range("authorization");
        for (auto next = begin; next != end; ++next) {
          all += "[" + std::string(next->second.data(), next->second.size()) + "]";
        }
        seen_->Add(all);
      }
      methods->Proceed();
    }

   private:
    Log* const seen_;
  };

  Log* const seen_;
};

class TokenTest : public testing::Test {
 protected:
  TokenTest() {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> recorders;
    recorders.push_back(std::make_unique<Recorder>(&seen));
    grpc::ServerBuilder builder;
    builder.experimental().SetInterceptorCreators(std::move(recorders));
    builder.RegisterService(&service);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16384);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server = builder.BuildAndStart();
    address = "127.0.0.1:" + std::to_string(port);
  }

  // Refuses calls of GetModel, "models/16" with code 16; the other methods are unimplemented.
  class Service final : public v1::TrainingService::Service {
    grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                          v1::GetModelResponse*) override {
      const int code = std::atoi(request->name().substr(7).c_str());
      return grpc::Status(
          code == 0 ? grpc::StatusCode::NOT_FOUND : static_cast<grpc::StatusCode>(code), "refused");
    }
  } service;
  Log seen;
  TemporaryDirectory folder;
  std::unique_ptr<grpc::Server> server;
  std::string address;
};

TEST_F(TokenTest, IsSentWithEveryCall) {
  ClientOptions options = Impatient();
  options.token.token = "bp_0123";
  Client client(address, options);
  EXPECT_FALSE(client.GetModel("models/5").ok());
  CallEverything(&client);
  const std::vector<std::string> all = seen.Take();
  EXPECT_GE(all.size(), 6U);
  EXPECT_THAT(all, Each("[Bearer bp_0123]"));
}

TEST_F(TokenTest, WithoutOneNothingIsSent) {
  Client client(address, Impatient());
  EXPECT_FALSE(client.GetModel("models/5").ok());
  EXPECT_THAT(seen.Take(), testing::ElementsAre(""));
}

TEST_F(TokenTest, OfTheEnvironmentIsSentIfNoOtherIsGiven) {
  setenv("BACKPROP_TOKEN", "bp_environment", 1);
  ClientOptions options = Impatient();
  const auto sent = [&] {
    Client client(address, options);
    EXPECT_FALSE(client.GetModel("models/5").ok());
    return seen.Take();
  };
  EXPECT_THAT(sent(), testing::ElementsAre("[Bearer bp_environment]"));
  options.token.token = "bp_0123";
  EXPECT_THAT(sent(), testing::ElementsAre("[Bearer bp_0123]"));
  options.token = {.use_environment = false};
  EXPECT_THAT(sent(), testing::ElementsAre(""));
  unsetenv("BACKPROP_TOKEN");
}

TEST_F(TokenTest, RefusalsAreFinal) {
  for (const auto code : {StatusCode::kUnauthenticated, StatusCode::kPermissionDenied}) {
    ClientOptions options;
    options.token.token = "t";
    Client client(address, options);
    EXPECT_EQ(client.GetModel("models/" + std::to_string(static_cast<int>(code))).status().code,
              code);
    EXPECT_THAT(seen.Take(), SizeIs(1));
  }
}

TEST_F(TokenTest, AFileIsReadAgainWhenItChanges) {
  const std::string file = folder.path() + "/token";
  rpc::WriteFile(file, "  first\n");
  ClientOptions options = Impatient();
  options.token.file = file;
  Client client(address, options);
  EXPECT_FALSE(client.GetModel("models/5").ok());
  ASSERT_THAT(seen.Take(), testing::ElementsAre("[Bearer first]"));
  const std::string next = folder.path() + "/next";
  rpc::WriteFile(next, "second\n");
  std::filesystem::rename(next, file);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::string last;
  while (last != "[Bearer second]" && std::chrono::steady_clock::now() < deadline) {
    EXPECT_FALSE(client.GetModel("models/5").ok());
    last = seen.Take().back();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(last, "[Bearer second]");
}

TEST_F(TokenTest, AFileThatHoldsNoTokenFailsCallsWithoutItsContent) {
  const std::string file = folder.path() + "/token";
  const auto with_file = [&](const std::optional<std::string>& text) {
    std::filesystem::remove(file);
    if (text.has_value()) rpc::WriteFile(file, *text);
    ClientOptions options = Impatient();
    options.token.file = file;
    return Client(address, options).GetModel("models/5").status();
  };
  const struct {
    std::optional<std::string> text;
    std::string message;
  } cases[] = {
      {std::nullopt, "No such file or directory"},
      {"", "is empty"},
      {" \n", "holds no token"},
      {"two secrets", "white space"},
      {"s\xc3\xa9"
       "cret",
       "other than ASCII"},
      {std::string(8193, 'x'), "more than 8192 bytes"},
  };
  for (const auto& one : cases) {
    const Status status = with_file(one.text);
    EXPECT_EQ(status.code, StatusCode::kUnauthenticated) << one.message;
    EXPECT_THAT(status.message, AllOf(HasSubstr(file), HasSubstr(one.message)));
    EXPECT_THAT(status.message, Not(HasSubstr("secrets")));
  }
  EXPECT_EQ(with_file(std::string(8192, 'x')).code, StatusCode::kNotFound);
  EXPECT_THAT(seen.Take(), SizeIs(1));
}

TEST_F(TokenTest, TwoTokensOrAWrongOneFailEveryCall) {
  ClientOptions both = Impatient();
  both.token.token = "a";
  both.token.file = folder.path() + "/token";
  Client client(address, both);
  EXPECT_THAT(CallEverything(&client),
              Each(testing::Field(&Status::code, StatusCode::kFailedPrecondition)));
  ClientOptions wrong = Impatient();
  wrong.token.token = "secret\r\nx: y";
  const Status status = Client(address, wrong).GetModel("models/5").status();
  EXPECT_EQ(status.code, StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message, Not(HasSubstr("secret")));
  EXPECT_THAT(seen.Take(), testing::IsEmpty());
}

TEST_F(TokenTest, IsNotSentToAnotherMachineInClearText) {
  ClientOptions options = Impatient();
  options.token.token = "secret";
  // An address for documentation (RFC 5737), which no machine has.
  Client client("192.0.2.1:50051", options);
  for (const Status& status : CallEverything(&client)) {
    EXPECT_EQ(status.code, StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.message, HasSubstr("is not sent to 192.0.2.1:50051 in clear text"));
  }
  const CallOptions soon{.timeout = std::chrono::milliseconds(50)};
  options.token.allow_clear_text = true;
  const auto allowed = Client("192.0.2.1:50051", options).GetModel("m", soon).status().code;
  EXPECT_THAT(allowed, testing::AnyOf(StatusCode::kDeadlineExceeded, StatusCode::kUnavailable));
  options.token.allow_clear_text = false;
  options.tls.emplace();
  const auto encrypted = Client("192.0.2.1:50051", options).GetModel("m", soon).status().code;
  EXPECT_THAT(encrypted, testing::AnyOf(StatusCode::kDeadlineExceeded, StatusCode::kUnavailable));
}

TEST(IsThisMachineTest, LoopbackAndUnixSocketsOnly) {
  for (const char* here :
       {"localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:/x", "unix-abstract:x",
        "dns:///localhost:1", "ipv4:127.0.0.1:1", "[::ffff:127.0.0.1]:1"}) {
    EXPECT_TRUE(IsThisMachine(here)) << here;
  }
  for (const char* there :
       {"example.com:1", "10.0.0.1:1", "127.0.0.1.example.com:1", "localhost.example.com:1",
        "[2001:db8::1]:1", "vsock:1:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "unix.example.com:1"}) {
    EXPECT_FALSE(IsThisMachine(there)) << there;
  }
}

}  // namespace
}  // namespace backprop
