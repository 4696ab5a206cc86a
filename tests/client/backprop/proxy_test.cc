#include "client/backprop/proxy.h"

#include <gtest/gtest.h>

#include <map>

namespace backprop {
namespace {

Environment With(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

TEST(ProxyTest, LoopbackAndUnixSocketsHaveNone) {
  const Environment all = With({{"http_proxy", "http://p:1"}, {"grpc_proxy", "http://p:2"}});
  for (const char* address :
       {"127.0.0.1:50051", "127.8.9.1:1", "localhost:50051", "LOCALHOST:1", "a.localhost:1",
        "[::1]:50051", "[::ffff:127.0.0.1]:1", "0.0.0.0:1", "[::]:1", "unix:/tmp/x.sock",
        "unix:///tmp/x.sock", "unix-abstract:x", "dns:///localhost:1", "dns:localhost:1",
        "dns://8.8.8.8/localhost:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1"}) {
    EXPECT_FALSE(ProxyFor(address, all).has_value()) << address;
  }
  for (const char* address : {"10.0.0.1:50051", "example.com:1", "localhost.example.com:1",
                              "[2001:db8::1]:1", "dns:///example.com:1", "1.127.0.0:1"}) {
    EXPECT_TRUE(ProxyFor(address, all).has_value()) << address;
  }
}

TEST(ProxyTest, TheFirstVariableThatIsSetCounts) {
  EXPECT_FALSE(ProxyFor("example.com:1", With({})).has_value());
  const auto http = ProxyFor("example.com:1", With({{"http_proxy", "http://p:1"}}));
  ASSERT_TRUE(http.has_value());
  EXPECT_EQ(http->url, "http://p:1");
  EXPECT_EQ(http->variable, "http_proxy");
  EXPECT_EQ(ProxyFor("example.com:1", With({{"http_proxy", "a"}, {"https_proxy", "b"}}))->url, "b");
  EXPECT_EQ(ProxyFor("example.com:1", With({{"https_proxy", "b"}, {"grpc_proxy", "c"}}))->url, "c");
  EXPECT_FALSE(ProxyFor("example.com:1", With({{"http_proxy", "a"}, {"grpc_proxy", ""}})));
}

TEST(ProxyTest, HostsOfNoProxyHaveNone) {
  for (const char* none : {"example.com", "other, example.com ,x", ".example.com", "*", "COM"}) {
    EXPECT_FALSE(ProxyFor("example.com:1", With({{"http_proxy", "a"}, {"no_proxy", none}})))
        << none;
  }
  EXPECT_TRUE(ProxyFor("example.com:1", With({{"http_proxy", "a"}, {"no_proxy", "example.org,"}})));
  EXPECT_TRUE(ProxyFor(
      "example.com:1",
      With({{"http_proxy", "a"}, {"no_proxy", "example.com"}, {"no_grpc_proxy", "example.org"}})));
}

TEST(ProxyTest, PasswordsAreNotTold) {
  EXPECT_EQ(ProxyFor("example.com:1", With({{"http_proxy", "http://me:secret@p:1"}}))->url,
            "http://p:1");
}

}  // namespace
}  // namespace backprop
