#include "server/auth/failed_attempts.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace backprop::auth {
namespace {

class SetClock final : public base::Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch();
};

class FailedAttemptsTest : public testing::Test {
 protected:
  int AdmittedOf(const std::string& address, int attempts) {
    int admitted = 0;
    for (int i = 0; i < attempts; ++i) {
      admitted += failed.Count(address) == absl::ZeroDuration() ? 1 : 0;
    }
    return admitted;
  }

  SetClock clock;
  FailedAttempts failed{&clock};
};

TEST_F(FailedAttemptsTest, APeerHasABurstAndThenARate) {
  EXPECT_EQ(AdmittedOf("10.0.0.1", 200), FailedAttempts::kBurst);
  clock.now += FailedAttempts::kRefill / 2;
  EXPECT_EQ(AdmittedOf("10.0.0.1", 5), 0);
  clock.now += FailedAttempts::kRefill;
  EXPECT_EQ(AdmittedOf("10.0.0.1", 5), 1);
  clock.now += 3 * FailedAttempts::kRefill;
  EXPECT_EQ(AdmittedOf("10.0.0.1", 5), 3);
  clock.now += absl::Hours(1);
  EXPECT_EQ(AdmittedOf("10.0.0.1", 200), FailedAttempts::kBurst);
}

TEST_F(FailedAttemptsTest, AnAttemptAfterTheTimeThatWasGivenIsAdmitted) {
  EXPECT_EQ(AdmittedOf("10.0.0.1", 200), FailedAttempts::kBurst);
  const absl::Duration wait = failed.Count("10.0.0.1");
  EXPECT_EQ(wait, FailedAttempts::kRefill);
  clock.now += wait / 2;
  EXPECT_EQ(failed.Count("10.0.0.1"), wait / 2);
  clock.now += wait / 2;
  EXPECT_EQ(failed.Count("10.0.0.1"), absl::ZeroDuration());
}

TEST_F(FailedAttemptsTest, PeersDoNotAffectEachOther) {
  EXPECT_EQ(AdmittedOf("10.0.0.1", 200), FailedAttempts::kBurst);
  EXPECT_EQ(AdmittedOf("10.0.0.2", 1), 1);
}

TEST_F(FailedAttemptsTest, ThePeerThatWasQuietLongestIsForgottenFirst) {
  EXPECT_EQ(AdmittedOf("first", FailedAttempts::kBurst), FailedAttempts::kBurst);
  EXPECT_EQ(AdmittedOf("second", FailedAttempts::kBurst), FailedAttempts::kBurst);
  EXPECT_EQ(AdmittedOf("first", 1), 0);
  for (size_t i = 0; i + 1 < FailedAttempts::kMaxPeers; ++i) failed.Count(absl::StrCat(i));
  EXPECT_EQ(AdmittedOf("first", 1), 0) << "still known";
  EXPECT_EQ(AdmittedOf("second", 1), 1) << "forgotten";
}

TEST(PeerAddressTest, PortsAndInterfacesOfAPeerDoNotMatter) {
  const struct {
    const char* peer;
    const char* address;
  } cases[] = {
      {"ipv4:10.0.0.1:4711", "10.0.0.1"},
      {"ipv6:%5B::1%5D:4711", "::/64"},
      {"ipv6:[::1]:4711", "::/64"},
      {"ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::/64"},
      {"ipv6:%5B2001:db8:1:2:ffff::%5D:1", "2001:db8:1:2::/64"},
      {"ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"},
      {"ipv6:%5B::ffff:10.0.0.1%5D:4711", "10.0.0.1"},
      {"unix:/run/backpropd.sock", "unix"},
      {"unix:", "unix"},
      {"unix-abstract:x", "unix"},
      {"unknown", "unknown"},
      {"", ""},
  };
  for (const auto& test : cases) EXPECT_EQ(PeerAddress(test.peer), test.address) << test.peer;
}

}  // namespace
}  // namespace backprop::auth
