#include "server/session/projects.h"

#include <gtest/gtest.h>

#include <limits>

#include "server/base/status.h"

namespace backprop::session {
namespace {

using absl::StatusCode;

Quota QuotaOf(Resource resource, int64_t limit) {
  Quota quota;
  quota.of(resource) = limit;
  return quota;
}

TEST(ProjectsTest, AQuotaIsReachedAndNotExceeded) {
  Projects projects(nullptr);
  projects.SetQuotas({{"acme", QuotaOf(Resource::kModels, 2)}});
  Project* const acme = projects.Of("acme");
  EXPECT_TRUE(acme->Take(Resource::kModels, 1).ok());
  EXPECT_TRUE(acme->Take(Resource::kModels, 1).ok());
  const absl::Status refused = acme->Take(Resource::kModels, 1);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "project acme: the quota of models is 2, and 2 are in use");
  const auto reason = base::ReasonOf(refused);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "QUOTA_EXCEEDED");
  EXPECT_EQ(reason->metadata.at("quota"), "models");
  EXPECT_EQ(reason->metadata.at("limit"), "2");
  EXPECT_EQ(reason->metadata.at("use"), "2");
  EXPECT_FALSE(reason->retry_after.has_value());
  acme->Release(Resource::kModels, 1);
  EXPECT_TRUE(acme->Take(Resource::kModels, 1).ok());
  EXPECT_TRUE(projects.Of("other")->Take(Resource::kModels, 1000).ok()) << "without a quota";
}

TEST(ProjectsTest, NewQuotasHoldAtOnceAndEndNothing) {
  Projects projects(nullptr);
  Project* const acme = projects.Of("acme");
  EXPECT_TRUE(acme->Take(Resource::kRuns, 5).ok());
  projects.SetQuotas({{"acme", QuotaOf(Resource::kRuns, 3)}});
  EXPECT_EQ(acme->limit(Resource::kRuns), 3);
  EXPECT_EQ(acme->used(Resource::kRuns), 5);
  EXPECT_FALSE(acme->Take(Resource::kRuns, 1).ok());
  projects.SetQuotas({});
  EXPECT_EQ(acme->limit(Resource::kRuns), std::nullopt);
  EXPECT_TRUE(acme->Take(Resource::kRuns, 1).ok());
  EXPECT_EQ(projects.Of("acme"), acme);
}

// Stored records can claim any use, of which the sum may wrap.
TEST(ProjectsTest, AnyUseIsComparedWithoutOverflow) {
  Projects projects(nullptr);
  Project* const acme = projects.Of("acme");
  projects.SetQuotas({{"acme", QuotaOf(Resource::kStoredBytes, 100)}});
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  acme->Count(Resource::kStoredBytes, kMost);
  EXPECT_FALSE(acme->HasRoom(Resource::kStoredBytes, 10));
  EXPECT_EQ(acme->Take(Resource::kStoredBytes, 10).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(acme->used(Resource::kStoredBytes), kMost);
  acme->Count(Resource::kStoredBytes, 10);  // it wraps
  EXPECT_TRUE(acme->HasRoom(Resource::kStoredBytes, 100));
  EXPECT_FALSE(acme->HasRoom(Resource::kStoredBytes, 101));
}

TEST(ProjectsTest, TheRateOfRequestsIsATokenBucket) {
  Projects projects(nullptr);
  Quota quota;
  quota.of(Rate::kRequests) = 4;
  projects.SetQuotas({{"acme", quota}});
  Project* const acme = projects.Of("acme");
  absl::Time now = absl::FromUnixSeconds(1000);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(acme->Take(Rate::kRequests, 1, now).ok()) << i;
  const absl::Status refused = acme->Take(Rate::kRequests, 1, now);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  const auto reason = base::ReasonOf(refused);
  ASSERT_TRUE(reason.has_value() && reason->retry_after.has_value());
  EXPECT_EQ(*reason->retry_after, absl::Milliseconds(250));
  now += *reason->retry_after;
  EXPECT_TRUE(acme->Take(Rate::kRequests, 1, now).ok()) << "a retry at the given time succeeds";
  EXPECT_FALSE(acme->Take(Rate::kRequests, 1, now).ok());
  now += absl::Hours(1);
  for (int i = 0; i < 4; ++i)
    EXPECT_TRUE(acme->Take(Rate::kRequests, 1, now).ok()) << "at most one second's";
  EXPECT_FALSE(acme->Take(Rate::kRequests, 1, now).ok());
  EXPECT_TRUE(projects.Of("other")->Take(Rate::kRequests, 1, now).ok());
}

TEST(ProjectsTest, MoreRowsThanThoseOfASecondAreAdmittedAndPaidForLater) {
  Projects projects(nullptr);
  Quota quota;
  quota.of(Rate::kRows) = 100;
  projects.SetQuotas({{"acme", quota}});
  Project* const acme = projects.Of("acme");
  absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_TRUE(acme->Take(Rate::kRows, 300, now).ok()) << "more than the bucket holds";
  const absl::Status refused = acme->Take(Rate::kRows, 50, now);
  const auto reason = base::ReasonOf(refused);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->metadata.at("quota"), "rows_per_second");
  EXPECT_EQ(reason->metadata.at("limit"), "100");
  EXPECT_EQ(reason->metadata.at("use"), "300");
  EXPECT_EQ(reason->retry_after, absl::Milliseconds(2500)) << "200 of the debt, and 50";
  EXPECT_FALSE(acme->Take(Rate::kRows, 50, now + absl::Milliseconds(2499)).ok());
  EXPECT_TRUE(acme->Take(Rate::kRows, 50, now + absl::Milliseconds(2500)).ok());
  EXPECT_TRUE(acme->Take(Rate::kRequests, 1000, now).ok()) << "another rate";
}

TEST(ProjectsTest, BytesInFlightAreReleasedWithTheirClaim) {
  Projects projects(nullptr);
  projects.SetQuotas({{"acme", QuotaOf(Resource::kBytesInFlight, 1000)}});
  Project* const acme = projects.Of("acme");
  {
    const auto first = acme->Ask(Resource::kBytesInFlight, 700);
    ASSERT_TRUE(first.ok());
    const absl::Status refused = acme->Ask(Resource::kBytesInFlight, 301).status();
    EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(refused.message(),
              "project acme: the quota of bytes_in_flight is 1000, and 700 are in use; 301 more "
              "are needed");
    EXPECT_TRUE(base::ReasonOf(refused)->retry_after.has_value());
    EXPECT_TRUE(acme->HasRoom(Resource::kBytesInFlight, 300));
    EXPECT_FALSE(acme->HasRoom(Resource::kBytesInFlight, 301));
  }
  EXPECT_EQ(acme->used(Resource::kBytesInFlight), 0);
  const absl::Status never = acme->Ask(Resource::kBytesInFlight, 1001).status();
  EXPECT_FALSE(base::ReasonOf(never)->retry_after.has_value()) << "waiting does not help";
  Project::Claim claim = *acme->Ask(Resource::kBytesInFlight, 1000);
  claim = Project::Claim();
  EXPECT_EQ(acme->used(Resource::kBytesInFlight), 0);
}

TEST(ProjectsTest, ARateBelowOneASecondAllowsARequestNowAndThen) {
  Projects projects(nullptr);
  Quota quota;
  quota.of(Rate::kRequests) = 0.1;
  projects.SetQuotas({{"acme", quota}});
  Project* const acme = projects.Of("acme");
  absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_TRUE(acme->Take(Rate::kRequests, 1, now).ok());
  EXPECT_FALSE(acme->Take(Rate::kRequests, 1, now + absl::Seconds(9)).ok());
  EXPECT_TRUE(acme->Take(Rate::kRequests, 1, now + absl::Seconds(11)).ok());
}

}  // namespace
}  // namespace backprop::session
