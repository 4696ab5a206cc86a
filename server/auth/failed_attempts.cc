#include "server/auth/failed_attempts.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace backprop::auth {
namespace {

constexpr size_t kIpv6NetworkBytes = 8;

std::string Ipv6Network(const std::string& text) {
  in6_addr address = {};
  const std::string without_zone = text.substr(0, text.find('%'));
  if (inet_pton(AF_INET6, without_zone.c_str(), &address) != 1) return text;
  char shown[INET6_ADDRSTRLEN] = {};
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    inet_ntop(AF_INET, &address.s6_addr[12], shown, sizeof(shown));
    return shown;
  }
  std::memset(&address.s6_addr[kIpv6NetworkBytes], 0, sizeof(address) - kIpv6NetworkBytes);
  inet_ntop(AF_INET6, &address, shown, sizeof(shown));
  return absl::StrCat(shown, "/64");
}

}  // namespace

std::string PeerAddress(absl::string_view peer) {
  if (absl::StartsWith(peer, "unix:") || absl::StartsWith(peer, "unix-abstract:")) return "unix";
  const bool ipv6 = absl::ConsumePrefix(&peer, "ipv6:");
  if (!ipv6 && !absl::ConsumePrefix(&peer, "ipv4:")) return std::string(peer);
  const absl::string_view host = peer.substr(0, peer.rfind(':'));
  if (!ipv6) return std::string(host);
  const std::string decoded =
      absl::StrReplaceAll(host, {{"%5B", ""}, {"%5D", ""}, {"[", ""}, {"]", ""}, {"%25", "%"}});
  return Ipv6Network(decoded);
}

absl::Duration FailedAttempts::Count(const std::string& address) {
  const absl::Time now = clock_->Now();
  const base::MutexLock lock(&mu_);
  const auto [found, is_new] = buckets_.try_emplace(address);
  Bucket& bucket = found->second;
  if (is_new) {
    bucket.order = order_.insert(order_.end(), address);
  } else {
    order_.splice(order_.end(), order_, bucket.order);
    const double refilled = absl::FDivDuration(now - bucket.counted, kRefill);
    bucket.attempts = std::min<double>(kBurst, bucket.attempts + refilled);
  }
  bucket.counted = now;
  absl::Duration wait;
  if (bucket.attempts >= 1) {
    bucket.attempts -= 1;
  } else {
    wait = (1 - bucket.attempts) * kRefill;
  }
  if (buckets_.size() > kMaxPeers) {
    buckets_.erase(order_.front());
    order_.pop_front();
  }
  return wait;
}

}  // namespace backprop::auth
