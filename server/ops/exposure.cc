#include "server/ops/exposure.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace backprop::ops {
namespace {

// An address and where it is from.
struct Listening {
  std::string flag;
  std::string address;
};

// What other machines can reach by gRPC.
std::vector<Listening> ReachableByGrpc(const Config& config) {
  std::vector<Listening> reachable;
  const auto add = [&](const char* flag, const std::vector<std::string>& addresses) {
    for (const std::string& address : addresses) {
      if (!IsLocal(address)) reachable.push_back({flag, address});
    }
  };
  add("--listen", config.listen);
  add("the inherited socket", config.inherited_listen);
  add("--admin-listen", config.admin_listen);
  add("the inherited socket", config.inherited_admin_listen);
  return reachable;
}

std::vector<Listening> Reachable(const Config& config) {
  std::vector<Listening> reachable = ReachableByGrpc(config);
  for (const std::string& address : config.http) {
    if (!IsLocal(address)) reachable.push_back({"--http", address});
  }
  return reachable;
}

std::string Joined(const std::vector<Listening>& listening) {
  return absl::StrJoin(listening, ", ",
                       [](std::string* out, const Listening& at) { out->append(at.address); });
}

bool IsEncrypted(const Config& config) { return config.tls.has_value(); }

absl::Status Refused(const Listening& listening, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(listening.flag, " ", listening.address, ": ", why));
}

}  // namespace

bool IsLocal(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const std::string host = address.substr(0, address.rfind(':'));
  if (host == "localhost") return true;
  in_addr ipv4 = {};
  if (inet_pton(AF_INET, host.c_str(), &ipv4) == 1) return ntohl(ipv4.s_addr) >> 24 == 127;
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  in6_addr ipv6 = {};
  return bracketed && inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &ipv6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&ipv6);
}

absl::Status CheckExposure(const Config& config) {
  const bool authenticates = !config.auth_file.empty();
  if (authenticates && config.allow_anonymous) {
    return absl::InvalidArgumentError(
        "--auth-file and --allow-anonymous contradict each other; give one of them");
  }
  if (config.allow_anonymous) return absl::OkStatus();
  if (!config.metrics_listen.empty() && !IsLocal(config.metrics_listen)) {
    return Refused({"--metrics-listen", config.metrics_listen},
                   "metrics have no authentication and no encryption, so that they are served on "
                   "loopback addresses and Unix sockets only. Put a proxy in front of them; or, "
                   "without --auth-file, give --allow-anonymous");
  }
  for (const Listening& listening : Reachable(config)) {
    if (!authenticates) {
      return Refused(listening,
                     "without authentication the server listens on loopback addresses and Unix "
                     "sockets only. Give --auth-file with --tls-cert and --tls-key; or give "
                     "--allow-anonymous, which lets everyone who reaches the address read, change "
                     "and delete everything");
    }
    if (!IsEncrypted(config) && !config.allow_cleartext) {
      return Refused(listening,
                     "tokens would travel in clear text. Give --tls-cert and --tls-key; or give "
                     "--allow-cleartext if something else encrypts the network");
    }
  }
  return absl::OkStatus();
}

std::string DescribeAccess(const Config& config) {
  if (!config.auth_file.empty()) return absl::StrCat("callers are those of ", config.auth_file);
  const std::vector<Listening> reachable = Reachable(config);
  if (reachable.empty()) {
    return "anonymous callers are allowed: every process of this machine that can connect may "
           "read, "
           "change and delete everything";
  }
  return absl::StrCat("anonymous callers are allowed on ", Joined(reachable),
                      ": everyone who reaches the address may read, change and delete everything");
}

std::string DescribeHostilePeers(const Config& config) {
  const std::vector<Listening> reachable = ReachableByGrpc(config);
  if (reachable.empty()) return "";
  return absl::StrCat(
      "other machines can reach ", Joined(reachable),
      ": without an edge in front of it one peer can exhaust the memory of this machine before any "
      "authentication, with floods of CONTINUATION frames, of streams or of resets. Let only "
      "trusted networks reach the address, or serve a Unix socket behind docker/edge "
      "(docs/hostile_peers.md)");
}

}  // namespace backprop::ops
