#include "server/rpc/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "tests/rpc/test_certificates.h"
#include "tests/temporary_directory.h"

namespace backprop::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CertificatesTest : public testing::Test {
 protected:
  CertificatesTest() {
    WriteFile(files.certificate, server.certificate() + authority.certificate());
    WriteFile(files.key, server.key());
    chmod(files.key.c_str(), 0600);
    WriteFile(files.client_ca, authority.certificate());
  }

  TemporaryDirectory folder;
  const TestCertificate authority{{.common_name = "authority", .authority = true}};
  const TestCertificate server{{.common_name = "server"}, &authority};
  TlsFiles files{folder.path() + "/cert.pem", folder.path() + "/key.pem", folder.path() + "/ca.pem",
                 ClientAuth::kRequire};
};

TEST_F(CertificatesTest, AreReadWithTheirSubjectsAndDates) {
  const auto read = ReadCertificates(files);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->chain, server.certificate() + authority.certificate());
  EXPECT_EQ(read->key, server.key());
  EXPECT_EQ(read->client_ca, authority.certificate());
  EXPECT_THAT(read->warnings, IsEmpty());
  ASSERT_EQ(read->labels.size(), 3U);
  EXPECT_EQ(read->labels[0].flag, "--tls-cert");
  EXPECT_EQ(read->labels[0].file, files.certificate);
  EXPECT_EQ(read->labels[0].subject, "CN=server");
  EXPECT_EQ(read->labels[1].subject, "CN=authority");
  EXPECT_EQ(read->labels[2].flag, "--tls-client-ca");
  const absl::Duration left = read->labels[0].not_after - absl::Now();
  EXPECT_GT(left, absl::Hours(24 * 90) - absl::Minutes(1));
  EXPECT_LE(left, absl::Hours(24 * 90));
}

TEST_F(CertificatesTest, TheFileOfClientsIsReadOnlyIfThereIsOne) {
  files.client_ca.clear();
  const auto read = ReadCertificates(files);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->client_ca, "");
}

TEST_F(CertificatesTest, ErrorsNameFlagFileAndReason) {
  const TestCertificate other{{.common_name = "other"}};
  const auto without = [&](const std::string& path) {
    return [path] { std::filesystem::remove(path); };
  };
  const auto with = [&](const std::string& path, const std::string& text) {
    return [path, text] { WriteFile(path, text); };
  };
  const std::string half = server.certificate().substr(0, server.certificate().size() / 2);
  const struct {
    std::function<void()> damage;
    std::string flag, path, reason;
  } cases[] = {
      {without(files.certificate), "--tls-cert ", files.certificate, "No such file or directory"},
      {without(files.key), "--tls-key ", files.key, "No such file or directory"},
      {without(files.client_ca), "--tls-client-ca ", files.client_ca, "No such file or directory"},
      {with(files.certificate, ""), "--tls-cert ", files.certificate, "is empty"},
      {with(files.certificate, "hello"), "--tls-cert ", files.certificate, "holds no certificate"},
      {with(files.certificate, half), "--tls-cert ", files.certificate, "cannot be parsed"},
      {with(files.certificate, server.certificate() + half), "--tls-cert ", files.certificate,
       "certificate 2 cannot be parsed"},
      {with(files.certificate, server.certificate() + std::string(1, '\0')), "--tls-cert ",
       files.certificate, "NUL byte"},
      {with(files.certificate, std::string((1 << 20) + 1, 'x')), "--tls-cert ", files.certificate,
       "has more than 1048576 bytes"},
      {with(files.key, server.certificate()), "--tls-key ", files.key, "holds no private key"},
      {with(files.key, server.key("secret")), "--tls-key ", files.key, "is encrypted"},
      {with(files.key, other.key()), "--tls-key ", files.key,
       "is not the key of the first certificate in --tls-cert " + files.certificate},
      {with(files.certificate, authority.certificate() + server.certificate()), "--tls-key ",
       files.key, "is not the key of the first certificate"},
      {with(files.client_ca, server.key()), "--tls-client-ca ", files.client_ca,
       "holds no certificate"},
      {[&] { files.certificate = folder.path(); }, "--tls-cert ", folder.path(),
       "is not a regular file"},
  };
  const TlsFiles right = files;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.flag + one.reason);
    one.damage();
    const auto read = ReadCertificates(files);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(read.status().message());
    EXPECT_THAT(message, testing::StartsWith(one.flag + one.path + ": "));
    EXPECT_THAT(message, HasSubstr(one.reason));
    EXPECT_THAT(message, testing::Not(HasSubstr("PRIVATE KEY-----\n")));  // no secret
    files = right;
    WriteFile(files.certificate, server.certificate() + authority.certificate());
    WriteFile(files.key, server.key());
    WriteFile(files.client_ca, authority.certificate());
  }
  EXPECT_TRUE(ReadCertificates(files).ok());
}

TEST_F(CertificatesTest, AKeyThatEveryoneCanReadIsAWarning) {
  chmod(files.key.c_str(), 0640);
  EXPECT_THAT(ReadCertificates(files)->warnings, IsEmpty());
  chmod(files.key.c_str(), 0644);
  EXPECT_THAT(ReadCertificates(files)->warnings,
              ElementsAre(testing::AllOf(HasSubstr("--tls-key " + files.key), HasSubstr("chmod"))));
}

TEST_F(CertificatesTest, WhatClientsWillRefuseIsAWarning) {
  const TestCertificate nameless{{.common_name = "server", .names = ""}};
  WriteFile(files.certificate, nameless.certificate());
  WriteFile(files.key, nameless.key());
  WriteFile(files.client_ca, server.certificate());
  EXPECT_THAT(ReadCertificates(files)->warnings,
              ElementsAre(HasSubstr("no subject alternative name"),
                          HasSubstr("CN=server is not the certificate of an authority")));
}

}  // namespace
}  // namespace backprop::rpc
