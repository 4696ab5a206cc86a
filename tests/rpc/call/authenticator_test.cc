#include "server/rpc/call/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::rpc {
namespace {

using testing::HasSubstr;
using testing::Not;

class SetClock final : public base::Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch();
};

std::string Token(char c) { return "bpt_" + std::string(49, c); }

auth::AuthFile FileOf(const std::string& project) {
  auth::AuthFile file;
  file.principals.push_back(
      {"anna", project, auth::Role::kReader, {auth::Sha256(Token('a'))}, {"x:anna", "x:anna2"}});
  file.principals.push_back(
      {"bert", project, auth::Role::kAdmin, {auth::Sha256(Token('b'))}, {"x:bert"}});
  return file;
}

class AuthenticatorTest : public testing::Test {
 protected:
  static Credentials Bearer(const std::string& value, std::vector<absl::string_view> uris = {}) {
    return {1, value, std::move(uris)};
  }
  // The name of the caller, or the reason why there is none.
  std::string Who(const Credentials& credentials, const std::string& peer = "ipv4:10.0.0.1:7") {
    const auto caller = authenticator.Authenticate(credentials, "Step", [&] { return peer; });
    if (caller.ok()) return (*caller)->principal;
    const auto reason = base::ReasonOf(caller.status());
    EXPECT_TRUE(reason.has_value()) << caller.status();
    const bool limited = reason->reason == "TOO_MANY_FAILED_ATTEMPTS";
    EXPECT_EQ(caller.status().code(),
              limited ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnauthenticated);
    return reason->reason;
  }

  SetClock clock;
  std::vector<std::string> lines;
  Authenticator authenticator{FileOf("p"), &clock,
                              [this](const std::string& line) { lines.push_back(line); }};
};

TEST_F(AuthenticatorTest, ATokenOrACertificateNamesTheCaller) {
  const std::string a = "Bearer " + Token('a');
  EXPECT_EQ(Who(Bearer(a)), "anna");
  EXPECT_EQ(Who(Bearer("bearer " + Token('b'))), "bert");
  EXPECT_EQ(Who({0, "", {"x:bert"}}), "bert");
  EXPECT_EQ(Who({0, "", {"x:unknown", "x:anna2"}}), "anna");
  EXPECT_EQ(Who(Bearer(a, {"x:anna", "x:anna2"})), "anna") << "both are hers";
  EXPECT_EQ(Who(Bearer(a, {"x:unknown"})), "anna");
  EXPECT_TRUE(lines.empty());
  const auto caller = authenticator.Authenticate(Bearer(a), "Step", [] { return ""; });
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ((*caller)->project, "p");
  EXPECT_EQ((*caller)->role, auth::Role::kReader);
}

TEST_F(AuthenticatorTest, OthersAreRefusedWithAReason) {
  const std::string a = "Bearer " + Token('a');
  EXPECT_EQ(Who({}), "NO_CREDENTIALS");
  for (const std::string& value : {std::string(), std::string("Bearer"), std::string("Bearer "),
                                   "Bearer" + Token('a'), "Bearer  " + Token('a'), a + " ", a + "x",
                                   "Basic " + Token('a'), Token('a'), "Bearer " + Token('c')}) {
    EXPECT_EQ(Who(Bearer(value)), "INVALID_TOKEN") << value;
  }
  EXPECT_EQ(Who({2, a, {}}), "INVALID_TOKEN") << "two values";
  EXPECT_EQ(Who({0, "", {"x:unknown"}}), "UNKNOWN_CERTIFICATE");
  EXPECT_EQ(Who({0, "", {"x:anna", "x:bert"}}), "TWO_PRINCIPALS");
  EXPECT_EQ(Who(Bearer(a, {"x:bert"})), "TWO_PRINCIPALS");
  EXPECT_EQ(Who(Bearer("Bearer " + Token('c'), {"x:anna"})), "INVALID_TOKEN")
      << "a wrong token is not made good by a certificate";
}

TEST_F(AuthenticatorTest, FailuresAreCountedAndLoggedWithoutTheToken) {
  Who(Bearer("Bearer " + Token('c')), "ipv6:%5B2001:db8::1%5D:7");
  Who({});
  Who({});
  Who({0, "", {"x:anna", "x:bert"}});
  EXPECT_EQ(authenticator.failures(AuthFailure::kInvalidToken), 1);
  EXPECT_EQ(authenticator.failures(AuthFailure::kNoCredentials), 2);
  EXPECT_EQ(authenticator.failures(AuthFailure::kTwoPrincipals), 1);
  EXPECT_EQ(authenticator.failures(AuthFailure::kUnknownCertificate), 0);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0], "2001:db8::/64: Step: INVALID_TOKEN");
  EXPECT_EQ(lines[1], "10.0.0.1: Step: NO_CREDENTIALS");
  for (const std::string& line : lines) EXPECT_THAT(line, Not(HasSubstr("ccc")));
}

TEST_F(AuthenticatorTest, APeerThatFailsTooOftenIsLimitedButDoesNotLockOutOthersBehindItsAddress) {
  const Credentials wrong = Bearer("Bearer " + Token('c'));
  for (int i = 0; i < auth::FailedAttempts::kBurst; ++i) {
    ASSERT_EQ(Who(wrong, absl::StrCat("ipv4:10.0.0.1:", i)), "INVALID_TOKEN") << i;
  }
  EXPECT_EQ(Who(wrong), "TOO_MANY_FAILED_ATTEMPTS");
  EXPECT_EQ(Who({}), "TOO_MANY_FAILED_ATTEMPTS");
  const auto limited =
      authenticator.Authenticate(wrong, "Step", [] { return "ipv4:10.0.0.1:7"; }).status();
  EXPECT_EQ(base::ReasonOf(limited)->retry_after, auth::FailedAttempts::kRefill);
  EXPECT_EQ(lines.size(), static_cast<size_t>(auth::FailedAttempts::kBurst));
  EXPECT_EQ(authenticator.limited(), 3);
  EXPECT_EQ(authenticator.failures(AuthFailure::kInvalidToken), auth::FailedAttempts::kBurst + 2);
  EXPECT_EQ(Who(Bearer("Bearer " + Token('a'))), "anna") << "from the same address";
  EXPECT_EQ(Who(wrong, "ipv4:10.0.0.2:1"), "INVALID_TOKEN");
  clock.now += auth::FailedAttempts::kRefill;
  EXPECT_EQ(Who(wrong), "INVALID_TOKEN");
}

TEST_F(AuthenticatorTest, ANewFileAppliesToTheNextCallAndCallersKeepWhatTheyWere) {
  const std::string a = "Bearer " + Token('a');
  const auto before = authenticator.Authenticate(Bearer(a), "Step", [] { return ""; });
  authenticator.Replace(FileOf("other"));
  const auto after = authenticator.Authenticate(Bearer(a), "Step", [] { return ""; });
  auth::AuthFile without_anna = FileOf("other");
  without_anna.principals.erase(without_anna.principals.begin());
  authenticator.Replace(std::move(without_anna));
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ((*before)->project, "p");
  EXPECT_EQ((*after)->project, "other");
  EXPECT_EQ(Who(Bearer(a)), "INVALID_TOKEN");
  EXPECT_EQ(authenticator.principals()->file().principals.size(), 1U);
}

TEST_F(AuthenticatorTest, FilesAreReplacedDuringCalls) {
  std::atomic<bool> end{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      const std::string value = "Bearer " + Token('a');
      while (!end) {
        const auto caller = authenticator.Authenticate(Bearer(value), "Step", [] { return ""; });
        ASSERT_TRUE(caller.ok());
        ASSERT_EQ((*caller)->principal, "anna");
      }
    });
  }
  for (int i = 0; i < 200; ++i) authenticator.Replace(FileOf(absl::StrCat("p", i)));
  end = true;
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace backprop::rpc
