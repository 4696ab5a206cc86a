// Limits the failed attempts of each peer.
#ifndef BACKPROP_SERVER_AUTH_FAILED_ATTEMPTS_H_
#define BACKPROP_SERVER_AUTH_FAILED_ATTEMPTS_H_

#include <list>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace backprop::auth {

// Returns the part of a peer's address that it cannot change easily: an IPv4 address, the first 64
// bits of an IPv6 address, "unix". `peer` is gRPC's, such as "ipv4:10.0.0.1:4711" or
// "ipv6:%5B::1%5D:4711"; one of another form is returned as it is.
std::string PeerAddress(absl::string_view peer);

// A token bucket for each address. A new peer has kBurst attempts. An attempt is added after each
// kRefill, up to kBurst. Thread-safe.
//
// At most kMaxPeers addresses are known. The address whose last attempt is the oldest is forgotten
// first; only a peer with more than kMaxPeers addresses can gain attempts by that.
class FailedAttempts {
 public:
  static constexpr int kBurst = 100;
  static constexpr absl::Duration kRefill = absl::Milliseconds(100);
  static constexpr size_t kMaxPeers = 4096;

  // `clock` must outlive this object.
  explicit FailedAttempts(const base::Clock* clock) : clock_(clock) {}

  // Counts an attempt of an address. Returns zero if it is within the limit, otherwise the time
  // after which the next one is.
  absl::Duration Count(const std::string& address);

 private:
  struct Bucket {
    double attempts = kBurst;
    absl::Time counted;
    std::list<std::string>::iterator order;
  };

  const base::Clock* const clock_;
  base::Mutex mu_;
  std::unordered_map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mu_);
  std::list<std::string> order_ ABSL_GUARDED_BY(mu_);  // addresses by their last attempt
};

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_FAILED_ATTEMPTS_H_
