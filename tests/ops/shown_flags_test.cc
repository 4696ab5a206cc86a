#include "server/ops/shown_flags.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "server/ops/config.h"

namespace backprop::ops {
namespace {

// The flags of a server with this command line, by name.
std::map<std::string, rpc::ShownFlag> Flags(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "backpropd");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  const Parsed parsed = ParseCommandLine(static_cast<int>(argv.size()), argv.data(), "backpropd 0");
  EXPECT_TRUE(parsed.config.has_value());
  std::map<std::string, rpc::ShownFlag> flags;
  if (!parsed.config.has_value()) return flags;
  EXPECT_TRUE(std::is_sorted(
      parsed.config->flags.begin(), parsed.config->flags.end(),
      [](const rpc::ShownFlag& a, const rpc::ShownFlag& b) { return a.name < b.name; }));
  for (const rpc::ShownFlag& flag : parsed.config->flags) flags[flag.name] = flag;
  return flags;
}

TEST(ShownFlagsTest, SaysWhatWasGivenAndWhatIsADefault) {
  auto flags = Flags(
      {"--listen", "127.0.0.1:1", "--listen=[::1]:2", "--max-models", "7", "--log-format", "json"});
  EXPECT_EQ(flags["--listen"].value, "127.0.0.1:1,[::1]:2");
  EXPECT_TRUE(flags["--listen"].given);
  EXPECT_EQ(flags["--max-models"].value, "7");
  EXPECT_EQ(flags["--log-format"].value, "json");
  EXPECT_EQ(flags["--log-level"].value, "info");
  EXPECT_FALSE(flags["--log-level"].given);
  EXPECT_EQ(flags["--data-dir"].value, "");
  EXPECT_EQ(flags["--allow-anonymous"].value, "false");
  EXPECT_EQ(Flags({"--allow-anonymous"})["--allow-anonymous"].value, "true");
  EXPECT_GT(flags.size(), 40U);
  for (const char* exits : {"--help", "--version", "--print-permissions", "--health-check"}) {
    EXPECT_EQ(flags.count(exits), 0U) << exits;
  }
}

TEST(ShownFlagsTest, AVariableOfTheEnvironmentCountsAsGiven) {
  setenv("BACKPROPD_MAX_MODELS", "9", 1);
  const auto flags = Flags({});
  unsetenv("BACKPROPD_MAX_MODELS");
  EXPECT_EQ(flags.at("--max-models").value, "9");
  EXPECT_TRUE(flags.at("--max-models").given);
}

TEST(ShownFlagsTest, DefaultsThatFollowFromTheMemoryLimitAreThoseInUse) {
  const auto flags = Flags({"--memory-limit", "256MiB", "--max-workspace-bytes", "1000"});
  EXPECT_EQ(flags.at("--memory-limit").value, std::to_string(256 << 20));
  EXPECT_EQ(flags.at("--max-message-bytes").value, std::to_string(32 << 20));
  EXPECT_FALSE(flags.at("--max-message-bytes").given);
  EXPECT_EQ(flags.at("--max-workspace-bytes").value, "1000");
  EXPECT_EQ(flags.at("--max-in-flight-bytes").value, std::to_string(64 << 20));
}

TEST(ShownFlagsTest, PathsOfSecretsAreShownAndNotRead) {
  const auto flags = Flags({"--auth-file", "/etc/auth.json"});
  EXPECT_EQ(flags.at("--auth-file").value, "/etc/auth.json");
}

TEST(ShownValueTest, SecretsAreHidden) {
  for (const char* name : {"--token", "--admin-token-x", "--db-password", "--key-passphrase",
                           "--client-secret", "--credentials"}) {
    EXPECT_EQ(ShownValue(name, "hunter2"), kHiddenValue) << name;
  }
  for (const char* value :
       {"bpt_0123", "x=bpt_0123", "http://user:password@proxy:80", "a,https://user@host/path"}) {
    EXPECT_EQ(ShownValue("--proxy", value), kHiddenValue) << value;
  }
  for (const char* value : {"http://proxy:80/a@b", "/home/a@b", "unix:/run/x.sock", "a@b", "",
                            "://", "http://", "10.0.0.1:80"}) {
    EXPECT_EQ(ShownValue("--proxy", value), value);
  }
  EXPECT_EQ(ShownValue("--tls-key", "/etc/tls.key"), "/etc/tls.key");
  EXPECT_EQ(ShownValue("--data-dir", "/\xff"), "/\xEF\xBF\xBD");
}

}  // namespace
}  // namespace backprop::ops
