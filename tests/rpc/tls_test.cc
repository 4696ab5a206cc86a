// A server with TLS, on a real socket, with real certificates.
#include "server/rpc/tls.h"

#include <gmock/gmock.h>
#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/support/method_handler.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/rpc/test_certificates.h"
#include "tests/rpc/test_server.h"
#include "tests/temporary_directory.h"

namespace backprop::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Level = TlsNotice::Level;

constexpr char kPeerMethod[] = "/test.Peer/Get";

// Replies with the URIs of the caller's certificate, one a line.
class PeerService final : public grpc::Service {
 public:
  PeerService() {
    AddMethod(new grpc::internal::RpcServiceMethod(kPeerMethod,
                                                   grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodCallback(
        0, new grpc::internal::CallbackUnaryHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
               [](grpc::CallbackServerContext* context, const grpc::ByteBuffer* /*request*/,
                  grpc::ByteBuffer* response) {
                 std::string text;
                 for (const grpc::string_ref& uri :
                      context->auth_context()->FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME)) {
                   text += std::string(uri.data(), uri.size()) + "\n";
                 }
                 const grpc::Slice slice(text);
                 *response = grpc::ByteBuffer(&slice, 1);
                 auto* const reactor = context->DefaultReactor();
                 reactor->Finish(grpc::Status::OK);
                 return reactor;
               }));
  }
};

class TlsTest : public testing::Test {
 protected:
  TlsTest() { Write(server); }

  void Write(const TestCertificate& certificate) {
    WriteFile(files.certificate, certificate.certificate());
    WriteFile(files.key, certificate.key());
    chmod(files.key.c_str(), 0600);
    WriteFile(files.client_ca, authority.certificate());
  }
  // The server serves until the next call.
  void Start(ClientAuth client_auth) {
    started.reset();
    files.client_auth = client_auth;
    tls = *Tls::Open(files);
    started.emplace(base::Limits{}, "", 2, nullptr, [this](ServerOptions* options) {
      options->tls = tls.get();
      options->additional.push_back(&peer);
    });
  }
  // A new connection. `own` is the client's certificate.
  std::shared_ptr<grpc::Channel> Connect(const TestCertificate& root,
                                         const TestCertificate* own = nullptr) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = root.certificate();
    if (own != nullptr) {
      options.pem_cert_chain = own->certificate();
      options.pem_private_key = own->key();
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(started->address, grpc::SslCredentials(options), arguments);
  }
  static grpc::Status Get(const std::shared_ptr<grpc::Channel>& channel, std::string* uris) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const grpc::Slice nothing("");
    grpc::ByteBuffer response;
    const grpc::internal::RpcMethod method(kPeerMethod, grpc::internal::RpcMethod::NORMAL_RPC,
                                           channel);
    const grpc::Status status =
        grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
            channel.get(), method, &context, grpc::ByteBuffer(&nothing, 1), &response);
    std::vector<grpc::Slice> slices;
    response.Dump(&slices);
    uris->clear();
    for (const grpc::Slice& slice : slices) {
      uris->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return status;
  }
  // The code of a call on a new connection.
  grpc::StatusCode CodeOf(const TestCertificate& root, const TestCertificate* own = nullptr) {
    std::string uris;
    return Get(Connect(root, own), &uris).error_code();
  }

  const absl::Time now = absl::Now();
  TemporaryDirectory folder;
  const TestCertificate authority{{.common_name = "authority", .authority = true}};
  const TestCertificate server{{.common_name = "server"}, &authority};
  const TestCertificate client{
      {.common_name = "client", .names = "URI:spiffe://example.com/trainer,DNS:trainer"},
      &authority};
  const TestCertificate stranger_authority{{.common_name = "stranger", .authority = true}};
  const TestCertificate stranger{{.common_name = "client"}, &stranger_authority};
  TlsFiles files{folder.path() + "/cert.pem", folder.path() + "/key.pem", folder.path() + "/ca.pem",
                 ClientAuth::kNone};
  PeerService peer;
  std::unique_ptr<Tls> tls;
  std::optional<TestServer> started;
};

TEST_F(TlsTest, ClientsAreAskedForACertificateAsConfigured) {
  const struct {
    ClientAuth client_auth;
    grpc::StatusCode without, with_a_strangers;
    const char* uris;
  } cases[] = {
      {ClientAuth::kNone, grpc::StatusCode::OK, grpc::StatusCode::OK, ""},
      {ClientAuth::kOptional, grpc::StatusCode::OK, grpc::StatusCode::UNAVAILABLE,
       "spiffe://example.com/trainer\n"},
      {ClientAuth::kRequire, grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::UNAVAILABLE,
       "spiffe://example.com/trainer\n"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(static_cast<int>(one.client_auth));
    Start(one.client_auth);
    EXPECT_EQ(CodeOf(authority), one.without);
    EXPECT_EQ(CodeOf(authority, &stranger), one.with_a_strangers);
    std::string uris;
    EXPECT_TRUE(Get(Connect(authority, &client), &uris).ok());
    EXPECT_EQ(uris, one.uris);
    EXPECT_EQ(CodeOf(stranger_authority), grpc::StatusCode::UNAVAILABLE);
  }
}

TEST_F(TlsTest, NewConnectionsUseNewFilesAndOldOnesStay) {
  Start(ClientAuth::kRequire);
  tls->Check(now);
  std::string uris;
  const auto old = Connect(authority, &client);
  ASSERT_TRUE(Get(old, &uris).ok());

  const TestCertificate next{{.common_name = "next"}, &stranger_authority};
  Write(next);
  WriteFile(files.client_ca, stranger_authority.certificate());
  const auto notices = tls->Check(now);
  ASSERT_FALSE(notices.empty());
  EXPECT_THAT(notices[0].text, HasSubstr("new connections use them"));
  EXPECT_THAT(notices[1].text, HasSubstr("CN=next, expires "));

  EXPECT_TRUE(Get(old, &uris).ok());
  EXPECT_EQ(CodeOf(authority, &client), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(stranger_authority, &client), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(stranger_authority, &stranger), grpc::StatusCode::OK);
  EXPECT_TRUE(Get(old, &uris).ok());
}

TEST_F(TlsTest, FilesThatCannotBeUsedChangeNothingAndAreReported) {
  Start(ClientAuth::kNone);
  tls->Check(now);
  const TestCertificate next{{.common_name = "next"}, &authority};
  WriteFile(files.certificate, next.certificate());  // the key is still the old one
  EXPECT_THAT(tls->Check(now), IsEmpty());           // it may follow
  const auto notices = tls->Check(now + absl::Seconds(1));
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices[0].level, Level::kError);
  EXPECT_THAT(notices[0].text, HasSubstr("the previous ones stay in use: --tls-key"));
  EXPECT_EQ(CodeOf(authority), grpc::StatusCode::OK);
  EXPECT_THAT(tls->Check(now + absl::Minutes(59)), IsEmpty());
  EXPECT_EQ(tls->Check(now + absl::Minutes(62)).size(), 1U);

  std::filesystem::remove(files.key);
  EXPECT_THAT(tls->Check(now + absl::Minutes(63)), IsEmpty());
  EXPECT_THAT(tls->Check(now + absl::Minutes(64))[0].text, HasSubstr("No such file"));
  EXPECT_EQ(CodeOf(authority), grpc::StatusCode::OK);

  WriteFile(files.key, next.key());
  chmod(files.key.c_str(), 0600);
  const auto repaired = tls->Check(now + absl::Minutes(65));
  ASSERT_EQ(repaired.size(), 3U);  // the reload, the certificate, the authority
  EXPECT_THAT(repaired[1].text, HasSubstr("CN=next"));
  EXPECT_THAT(tls->Check(now + absl::Minutes(130)), IsEmpty());
}

TEST_F(TlsTest, FilesThatComeBackAreReportedOnce) {
  const auto opened = *Tls::Open(files);
  opened->Check(now);
  WriteFile(files.key, "");
  opened->Check(now);
  EXPECT_EQ(opened->Check(now).size(), 1U);
  Write(server);
  const auto notices = opened->Check(now);
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices[0].level, Level::kInfo);
  EXPECT_THAT(opened->Check(now), IsEmpty());
}

TEST_F(TlsTest, ExpiryIsReportedDaily) {
  const auto levels = [](const std::vector<TlsNotice>& notices) {
    std::vector<Level> all;
    for (const TlsNotice& notice : notices) all.push_back(notice.level);
    return all;
  };
  const absl::Time end = now + absl::Hours(24 * 15);
  Write(TestCertificate{{.common_name = "short", .not_after = end}, &authority});
  const auto opened = *Tls::Open(files);
  EXPECT_THAT(levels(opened->Check(now)), ElementsAre(Level::kInfo, Level::kInfo));
  EXPECT_THAT(opened->Check(end - kExpiryWarning - absl::Minutes(1)), IsEmpty());
  const absl::Time soon = end - kExpiryWarning + absl::Hours(24);
  const auto expiring = opened->Check(soon);
  ASSERT_THAT(levels(expiring), ElementsAre(Level::kWarning));
  EXPECT_THAT(expiring[0].text, HasSubstr("CN=short, expires soon, on "));
  EXPECT_THAT(opened->Check(soon + absl::Hours(23)), IsEmpty());
  EXPECT_THAT(levels(opened->Check(soon + absl::Hours(24))), ElementsAre(Level::kWarning));
  EXPECT_THAT(opened->Check(end + absl::Seconds(2))[0].text, HasSubstr("CN=short, expired on "));
}

TEST_F(TlsTest, AnExpiredCertificateIsServedWithAWarning) {
  Write(TestCertificate{{.common_name = "old", .not_after = now - absl::Minutes(1)}, &authority});
  const auto opened = Tls::Open(files);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto notices = (*opened)->Check(now);
  ASSERT_FALSE(notices.empty());
  EXPECT_EQ(notices.back().level, Level::kWarning);
  EXPECT_THAT(notices.back().text, HasSubstr("CN=old, expired on "));
}

TEST_F(TlsTest, TcpIsEncryptedAndUnixSocketsAreNot) {
  tls = *Tls::Open(files);
  const std::string path = folder.path() + "/s.sock";
  started.emplace(base::Limits{}, path, 2, nullptr,
                  [this](ServerOptions* options) { options->tls = tls.get(); });
  const auto list = [](const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::ListModelsResponse response;
    return v1::TrainingService::NewStub(channel)
        ->ListModels(&context, v1::ListModelsRequest(), &response)
        .error_code();
  };
  const auto clear = grpc::InsecureChannelCredentials();
  EXPECT_EQ(list(Connect(authority)), grpc::StatusCode::OK);
  EXPECT_EQ(list(grpc::CreateChannel("unix:" + path, clear)), grpc::StatusCode::OK);
  EXPECT_EQ(list(grpc::CreateChannel(started->address, clear)), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace backprop::rpc
