#include "server/rpc/call/overload_control.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/base/status.h"

namespace backprop::rpc {
namespace {

using std::chrono::milliseconds;
using Permit = OverloadControl::Permit;
using TimePoint = OverloadControl::TimePoint;

constexpr TimePoint kStart = TimePoint(std::chrono::hours(1));
constexpr size_t kRed = 1, kBlue = 2, kGreen = 3;

class OverloadControlTest : public testing::Test {
 protected:
  // Begins a call that was received now, and keeps it in `active` unless it is refused.
  absl::Status Begin(size_t project, int64_t bytes = 100) {
    Permit permit;
    absl::Status begun = control.Begin(project, bytes, kStart, kStart, &permit);
    if (begun.ok()) active.push_back(std::move(permit));
    return begun;
  }
  // The queue that refused a call.
  static std::string QueueOf(const absl::Status& status) {
    const auto reason = base::ReasonOf(status);
    return reason.has_value() ? reason->metadata.at("queue") : "none";
  }
  int64_t Accepted(size_t project, int attempts) {
    int64_t accepted = 0;
    for (int i = 0; i < attempts; ++i) accepted += Begin(project).ok();
    return accepted;
  }

  OverloadControl control;
  std::vector<Permit> active;  // before the control is destroyed
};

TEST_F(OverloadControlTest, WithoutLimitsEveryCallBegins) {
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(Begin(kRed, 1 << 20).ok());
  EXPECT_EQ(control.active_calls(), 10'000);
  EXPECT_EQ(control.request_bytes(), int64_t{10'000} << 20);
  active.clear();
  EXPECT_EQ(control.active_calls(), 0);
  EXPECT_EQ(control.request_bytes(), 0);
}

TEST_F(OverloadControlTest, TheErrorSaysWhatWasFullAndWhenToRetry) {
  control.SetLimits({.max_active_calls = 1});
  ASSERT_TRUE(Begin(kRed).ok());
  const absl::Status refused = Begin(kRed);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  const auto reason = base::ReasonOf(refused);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "OVERLOADED");
  EXPECT_EQ(reason->metadata.at("queue"), "calls");
  EXPECT_EQ(reason->retry_after, absl::Milliseconds(100));
  EXPECT_EQ(control.refused(Overload::kCalls), 1);
  EXPECT_EQ(control.refused(Overload::kProjectCalls), 0);
}

TEST_F(OverloadControlTest, ActiveCallsAreBoundedAndTheEndOfOneMakesRoom) {
  control.SetLimits({.max_active_calls = 3});
  EXPECT_EQ(Accepted(kRed, 5), 3);
  EXPECT_EQ(control.active_calls(), 3) << "a refused call is not active";
  active.pop_back();
  EXPECT_EQ(Accepted(kBlue, 5), 1);
}

TEST_F(OverloadControlTest, TheLimitOfAProjectLeavesRoomForOthers) {
  control.SetLimits({.max_active_calls = 100, .max_active_calls_per_project = 10});
  EXPECT_EQ(Accepted(kRed, 50), 10);
  EXPECT_EQ(QueueOf(Begin(kRed)), "project_calls");
  EXPECT_EQ(Accepted(kBlue, 50), 10);
  active.clear();
  EXPECT_EQ(Accepted(kRed, 50), 10);
}

TEST_F(OverloadControlTest, AProjectGetsAsManyCallsAsAreFree) {
  control.SetLimits(
      {.max_active_calls = 100, .max_active_calls_per_project = OverloadLimits::kAsManyAsAreFree});
  EXPECT_EQ(Accepted(kRed, 1000), 50) << "half";
  EXPECT_EQ(Accepted(kBlue, 1000), 25) << "as many as it leaves";
  EXPECT_EQ(Accepted(kGreen, 1), 1) << "and there is room for another";
  EXPECT_EQ(QueueOf(Begin(kRed)), "project_calls");
}

TEST_F(OverloadControlTest, OneCallOfEachProjectMayBeActiveHoweverFewAreFree) {
  control.SetLimits(
      {.max_active_calls = 2, .max_active_calls_per_project = OverloadLimits::kAsManyAsAreFree});
  EXPECT_EQ(Accepted(kRed, 5), 1);
  EXPECT_EQ(Accepted(kBlue, 5), 1);
  EXPECT_EQ(QueueOf(Begin(kGreen)), "calls");
}

TEST_F(OverloadControlTest, TheBytesOfRequestsAreBoundedButNotThoseOfASingleOne) {
  control.SetLimits({.max_request_bytes = 100'000});
  ASSERT_TRUE(Begin(kRed, 500'000).ok()) << "whatever its size, it can be answered alone";
  EXPECT_EQ(QueueOf(Begin(kRed, 5'000)), "request_bytes");
  EXPECT_TRUE(Begin(kRed, 4'095).ok()) << "small requests are bounded by their number";
  active.clear();
  EXPECT_TRUE(Begin(kRed, 60'000).ok());
  EXPECT_TRUE(Begin(kRed, 40'000).ok());
  EXPECT_FALSE(Begin(kRed, 4'096).ok());
  EXPECT_EQ(control.request_bytes(), 100'000);
}

TEST_F(OverloadControlTest, CallsThatWaitForAThreadOfGrpcAreRefusedAfterAnInterval) {
  control.SetLimits({.delay_target = absl::Milliseconds(20)});
  const auto begin = [&](milliseconds now, milliseconds waited) {
    Permit permit;
    return control.Begin(kRed, 100, kStart + now - waited, kStart + now, &permit);
  };
  for (int ms = 0; ms <= 200; ms += 5) ASSERT_TRUE(begin(milliseconds(ms), milliseconds(30)).ok());
  const absl::Status refused = begin(milliseconds(205), milliseconds(30));
  EXPECT_EQ(QueueOf(refused), "receiving");
  EXPECT_EQ(control.active_calls(), 0) << "a refused call is not active";
  EXPECT_TRUE(begin(milliseconds(210), milliseconds(20)).ok()) << "it has not waited too long";
  EXPECT_TRUE(begin(milliseconds(500), milliseconds(30)).ok()) << "the overload has ended";
}

// For example when the system pauses the process now and then.
TEST_F(OverloadControlTest, SingleCallsThatWaitForAThreadOfGrpcAreNotRefused) {
  control.SetLimits({.delay_target = absl::Milliseconds(20)});
  for (int second = 0; second < 5; ++second) {
    const auto now = kStart + std::chrono::seconds(second);
    Permit permit;
    EXPECT_TRUE(control.Begin(kRed, 100, now - milliseconds(30), now, &permit).ok()) << second;
  }
}

TEST_F(OverloadControlTest, EveryQueueHasAName) {
  for (const Overload overload : kOverloads) EXPECT_STRNE(NameOf(overload), "?");
}

}  // namespace
}  // namespace backprop::rpc
