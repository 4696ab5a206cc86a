#include "server/ops/exposure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace backprop::ops {
namespace {

using testing::HasSubstr;

Config Listening(const std::string& address) {
  Config config;
  config.listen = {"127.0.0.1:0", address};
  return config;
}

TEST(ExposureTest, OnlyLoopbackAndUnixSocketsAreLocal) {
  for (const char* local : {"127.0.0.1:1", "127.255.0.9:1", "localhost:50051", "[::1]:1",
                            "unix:/run/x.sock", "unix:x:1"}) {
    EXPECT_TRUE(IsLocal(local)) << local;
  }
  for (const char* reachable :
       {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "128.0.0.1:1", "example.org:1", "localhost.example:1",
        "127.0.0.1.example.org:1", "[::ffff:10.0.0.1]:1", "::1:1", "[fe80::1]:1", "127.1:1", ":1",
        "", "[]:1", "0:1"}) {
    EXPECT_FALSE(IsLocal(reachable)) << reachable;
  }
}

TEST(ExposureTest, WithoutAuthenticationOnlyLocalAddressesAreAllowed) {
  EXPECT_TRUE(CheckExposure(Listening("[::1]:0")).ok());
  Config config = Listening("0.0.0.0:0");
  const absl::Status refused = CheckExposure(config);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  for (const char* part :
       {"--listen 0.0.0.0:0: ", "--auth-file", "--tls-cert", "--tls-key", "--allow-anonymous"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
  }
  config.allow_anonymous = true;
  EXPECT_TRUE(CheckExposure(config).ok());
}

TEST(ExposureTest, MetricsAreLocalBecauseTheyHaveNoAuthentication) {
  Config config = Listening("127.0.0.1:0");
  config.metrics_listen = "127.0.0.1:9100";
  EXPECT_TRUE(CheckExposure(config).ok());
  config.metrics_listen = "unix:/run/metrics.sock";
  EXPECT_TRUE(CheckExposure(config).ok());
  config.metrics_listen = "0.0.0.0:9100";
  EXPECT_THAT(std::string(CheckExposure(config).message()),
              HasSubstr("--metrics-listen 0.0.0.0:9100: metrics have no authentication"));
  config.allow_cleartext = true;
  config.auth_file = "auth.json";
  EXPECT_FALSE(CheckExposure(config).ok());
  config.auth_file.clear();
  config.allow_anonymous = true;
  EXPECT_TRUE(CheckExposure(config).ok());
}

TEST(ExposureTest, TokensDoNotTravelInClearTextUnlessThatIsSaid) {
  Config config = Listening("0.0.0.0:0");
  config.auth_file = "auth.json";
  const absl::Status refused = CheckExposure(config);
  for (const char* part : {"--listen 0.0.0.0:0: tokens", "--tls-cert", "--allow-cleartext"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
  }
  config.allow_cleartext = true;
  EXPECT_TRUE(CheckExposure(config).ok());
  config = Listening("127.0.0.1:0");
  config.auth_file = "auth.json";
  EXPECT_TRUE(CheckExposure(config).ok());
}

TEST(ExposureTest, AClearTextFlagIsNoPermissionForAnonymousCallers) {
  Config config = Listening("0.0.0.0:0");
  config.allow_cleartext = true;
  EXPECT_FALSE(CheckExposure(config).ok());
}

TEST(ExposureTest, AuthenticationAndAnonymousCallersContradictEachOther) {
  Config config = Listening("127.0.0.1:0");
  config.auth_file = "auth.json";
  config.allow_anonymous = true;
  EXPECT_THAT(std::string(CheckExposure(config).message()), HasSubstr("contradict"));
}

TEST(ExposureTest, TheRuleHoldsForEveryListener) {
  const auto expect_refused = [](const Config& config, const std::string& flag) {
    EXPECT_THAT(std::string(CheckExposure(config).message()),
                HasSubstr(flag + " 0.0.0.0:9: without authentication"));
  };
  Config config = Listening("127.0.0.1:0");
  config.admin_listen = {"unix:/run/admin.sock"};
  EXPECT_TRUE(CheckExposure(config).ok());
  config.admin_listen.push_back("0.0.0.0:9");
  expect_refused(config, "--admin-listen");
  config.admin_listen.clear();
  config.inherited_listen = {"0.0.0.0:9"};
  expect_refused(config, "the inherited socket");
  config.inherited_listen.clear();
  config.inherited_admin_listen = {"0.0.0.0:9"};
  expect_refused(config, "the inherited socket");
}

TEST(ExposureTest, TheLogSaysWhatHostilePeersCanDoOnAddressesThatTheyReach) {
  Config config = Listening("127.0.0.1:0");
  config.admin_listen = {"unix:/run/admin.sock"};
  EXPECT_EQ(DescribeHostilePeers(config), "");
  config.admin_listen = {"10.0.0.1:9"};
  for (const char* part :
       {"10.0.0.1:9", "before any authentication", "docker/edge", "docs/hostile_peers.md"}) {
    EXPECT_THAT(DescribeHostilePeers(config), HasSubstr(part));
  }
}

TEST(ExposureTest, TheLogSaysWhoMayCall) {
  Config config = Listening("127.0.0.1:0");
  EXPECT_THAT(DescribeAccess(config), HasSubstr("anonymous callers are allowed: every process"));
  config = Listening("0.0.0.0:7");
  config.allow_anonymous = true;
  EXPECT_THAT(DescribeAccess(config),
              HasSubstr("anonymous callers are allowed on 0.0.0.0:7: everyone"));
  config.auth_file = "auth.json";
  EXPECT_EQ(DescribeAccess(config), "callers are those of auth.json");
}

}  // namespace
}  // namespace backprop::ops
