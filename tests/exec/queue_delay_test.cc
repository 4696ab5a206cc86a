#include "server/exec/queue_delay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

namespace backprop::exec {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using TimePoint = DelayState::TimePoint;

constexpr nanoseconds kTarget = milliseconds(20);
constexpr nanoseconds kInterval = DelayState::kInterval * kTarget;

// A moment of a test, which has no clock.
TimePoint At(nanoseconds since_start) { return TimePoint(std::chrono::hours(1)) + since_start; }

TEST(DelayStateTest, EntriesThatWaitForTheTargetAreNotRefused) {
  DelayState state;
  state.Observe(At(nanoseconds(0)), milliseconds(500), false, kTarget);
  EXPECT_FALSE(state.Refuses(At(10 * kInterval), kTarget, kTarget));
  EXPECT_TRUE(state.Refuses(At(10 * kInterval), kTarget + nanoseconds(1), kTarget));
}

TEST(DelayStateTest, AQueueIsOverloadedWhenAllEntriesHaveWaitedTooLongForAnInterval) {
  DelayState state;
  for (int ms = 0; ms < 200; ms += 10) {
    state.Observe(At(milliseconds(ms)), kTarget + nanoseconds(1), false, kTarget);
    EXPECT_FALSE(state.Refuses(At(milliseconds(ms)), 2 * kTarget, kTarget)) << ms;
  }
  EXPECT_FALSE(state.Refuses(At(kInterval - nanoseconds(1)), 2 * kTarget, kTarget));
  EXPECT_TRUE(state.Refuses(At(kInterval), 2 * kTarget, kTarget));
}

TEST(DelayStateTest, OneShortWaitEndsTheInterval) {
  DelayState state;
  state.Observe(At(milliseconds(0)), 2 * kTarget, false, kTarget);
  state.Observe(At(milliseconds(150)), kTarget, false, kTarget);
  state.Observe(At(milliseconds(160)), 2 * kTarget, false, kTarget);
  EXPECT_FALSE(state.Refuses(At(milliseconds(359)), 2 * kTarget, kTarget));
  EXPECT_TRUE(state.Refuses(At(milliseconds(360)), 2 * kTarget, kTarget));
}

TEST(DelayStateTest, AnEmptyQueueIsNotOverloadedHoweverLongItsLastEntryHasWaited) {
  DelayState state;
  state.Observe(At(milliseconds(0)), 10 * kTarget, false, kTarget);
  state.Observe(At(milliseconds(100)), 10 * kTarget, true, kTarget);
  EXPECT_FALSE(state.Refuses(At(milliseconds(900)), 10 * kTarget, kTarget));
}

TEST(DelayStateTest, ABurstMayWaitForFiftyTargetsButNotLonger) {
  DelayState state;
  EXPECT_FALSE(state.Refuses(At(milliseconds(0)), DelayState::kBurst * kTarget, kTarget));
  EXPECT_TRUE(
      state.Refuses(At(milliseconds(0)), DelayState::kBurst * kTarget + nanoseconds(1), kTarget));
}

TEST(DelayStateTest, TheOverloadEndsWhenNothingHadToBeRefusedForAnInterval) {
  DelayState state;
  ASSERT_TRUE(state.Refuses(At(milliseconds(0)), milliseconds(1001), kTarget));
  // Each refusal prolongs it.
  ASSERT_TRUE(state.Refuses(At(milliseconds(150)), 2 * kTarget, kTarget));
  ASSERT_TRUE(state.Refuses(At(milliseconds(300)), 2 * kTarget, kTarget));
  // Entries that would not wait too long do not.
  ASSERT_FALSE(state.Refuses(At(milliseconds(450)), kTarget, kTarget));
  EXPECT_TRUE(state.Refuses(At(milliseconds(499)), 2 * kTarget, kTarget));
  EXPECT_FALSE(state.Refuses(At(milliseconds(699)), 2 * kTarget, kTarget));
}

TEST(DelayStateTest, WithoutATargetNothingIsRefused) {
  DelayState state;
  state.Observe(At(milliseconds(0)), std::chrono::hours(1), false, nanoseconds(0));
  EXPECT_FALSE(state.Refuses(At(std::chrono::hours(1)), std::chrono::hours(1), nanoseconds(0)));
}

TEST(QueueDelayTest, LearnsHowLongAnEntryWaitsForEachPlace) {
  QueueDelay queue;
  EXPECT_EQ(queue.Join(), 1);
  EXPECT_EQ(queue.Join(), 2);
  EXPECT_EQ(queue.ExpectedWait(), nanoseconds(0)) << "nothing is known yet";
  for (int i = 0; i < 20; ++i) {
    const int64_t place = queue.Join();
    EXPECT_EQ(place, 3);
    queue.Leave(At(milliseconds(30)), At(milliseconds(0)), place, kTarget);
  }
  EXPECT_NEAR(static_cast<double>(queue.ExpectedWait().count()), 30e6, 0.1e6);
  EXPECT_EQ(queue.waiting(), 2);
  // Slower work counts at once: the mean of 10 and 110.
  queue.Leave(At(milliseconds(110)), At(milliseconds(0)), 1, kTarget);
  EXPECT_NEAR(static_cast<double>(queue.ExpectedWait().count()), 120e6, 0.1e6);
  EXPECT_EQ(queue.RetryAfter(), queue.ExpectedWait());
}

TEST(QueueDelayTest, AFewEntriesAreNeverRefused) {
  QueueDelay queue;
  for (int i = 0; i < 4; ++i) queue.Join();
  queue.Leave(At(std::chrono::seconds(60)), At(milliseconds(0)), 1, kTarget);
  EXPECT_FALSE(queue.Refuses(At(std::chrono::seconds(60)), 4, kTarget));
  EXPECT_TRUE(queue.Refuses(At(std::chrono::seconds(60)), 3, kTarget));
}

// Simulates threads that work on calls in their order. All times are those of the simulation.
class Simulation {
 public:
  static constexpr int kThreads = 2;
  static constexpr nanoseconds kWork = milliseconds(20);
  static constexpr int64_t kFewest = 4 * kThreads;

  // Calls arrive at random times, `load` times as many as the threads can do, until `end`.
  void Run(double load, nanoseconds end) {
    std::exponential_distribution<double> gap(load * kThreads / static_cast<double>(kWork.count()));
    while ((arrival_ += nanoseconds(std::llround(gap(random_)))) < end) {
      StartUntil(arrival_);
      if (delay_.Refuses(At(arrival_), kFewest, kTarget)) {
        refused_at.push_back(arrival_);
      } else {
        waiting_.push_back({arrival_, delay_.Join()});
      }
    }
    arrival_ = end;
    StartUntil(end);
  }

  struct Started {
    nanoseconds at;
    nanoseconds waited;
  };
  std::vector<Started> started;
  std::vector<nanoseconds> refused_at;

  // About the calls that started in [from, to): how many, and the 99th percentile of their waits.
  int64_t CountIn(nanoseconds from, nanoseconds to) const {
    return static_cast<int64_t>(Waits(from, to).size());
  }
  nanoseconds P99In(nanoseconds from, nanoseconds to) const {
    auto waits = Waits(from, to);
    std::sort(waits.begin(), waits.end());
    return waits.empty() ? nanoseconds(0) : waits[waits.size() * 99 / 100];
  }
  int64_t RefusedIn(nanoseconds from, nanoseconds to) const {
    return std::count_if(refused_at.begin(), refused_at.end(),
                         [&](nanoseconds at) { return at >= from && at < to; });
  }

 private:
  struct Call {
    nanoseconds arrived;
    int64_t place;
  };

  std::vector<nanoseconds> Waits(nanoseconds from, nanoseconds to) const {
    std::vector<nanoseconds> waits;
    for (const Started& call : started) {
      if (call.at >= from && call.at < to) waits.push_back(call.waited);
    }
    return waits;
  }

  void StartUntil(nanoseconds now) {
    while (!waiting_.empty()) {
      auto* const thread = std::min_element(free_at_, free_at_ + kThreads);
      const Call call = waiting_.front();
      const nanoseconds at = std::max(*thread, call.arrived);
      if (at > now) return;
      waiting_.pop_front();
      delay_.Leave(At(at), At(call.arrived), call.place, kTarget);
      started.push_back({at, at - call.arrived});
      *thread = at + kWork;
    }
  }

  std::minstd_rand random_{1};
  QueueDelay delay_;
  std::deque<Call> waiting_;
  nanoseconds free_at_[kThreads] = {};
  nanoseconds arrival_{0};
};

constexpr nanoseconds Seconds(int seconds) { return std::chrono::seconds(seconds); }

TEST(QueueDelayTest, HalfTheCapacityIsNeverRefused) {
  Simulation calls;
  calls.Run(0.5, Seconds(60));
  EXPECT_EQ(calls.refused_at.size(), 0U);
  EXPECT_NEAR(static_cast<double>(calls.started.size()), 3000, 200);
}

TEST(QueueDelayTest, AtTenTimesTheCapacityTheThreadsWorkAllTheTimeAndTheWaitsStayShort) {
  Simulation calls;
  calls.Run(10, Seconds(30));
  // After the first two seconds, in which the queue of the first interval is worked off.
  EXPECT_GE(calls.CountIn(Seconds(2), Seconds(30)), 2798);
  EXPECT_LE(calls.P99In(Seconds(2), Seconds(30)),
            Simulation::kWork * (Simulation::kFewest + 1) / Simulation::kThreads);
  EXPECT_GT(calls.RefusedIn(Seconds(2), Seconds(30)), 8 * 2800);
}

TEST(QueueDelayTest, TwiceTheCapacityHasTheSameWaitsAsTenTimes) {
  Simulation twice, tenfold;
  twice.Run(2, Seconds(30));
  tenfold.Run(10, Seconds(30));
  EXPECT_GE(twice.CountIn(Seconds(2), Seconds(30)), 2798);
  EXPECT_LE(tenfold.P99In(Seconds(2), Seconds(30)), twice.P99In(Seconds(2), Seconds(30)) * 3 / 2);
}

TEST(QueueDelayTest, NothingIsRefusedSoonAfterAnOverload) {
  Simulation calls;
  calls.Run(10, Seconds(10));
  ASSERT_GT(calls.RefusedIn(Seconds(9), Seconds(10)), 500);
  calls.Run(0.5, Seconds(60));
  EXPECT_EQ(calls.RefusedIn(Seconds(11), Seconds(60)), 0);
}

TEST(QueueDelayTest, ABurstOfLessThanASecondOfWorkIsNotRefused) {
  Simulation calls;
  calls.Run(0.5, Seconds(10));
  const size_t before = calls.started.size();
  calls.Run(700, Seconds(10) + milliseconds(1));  // about 70 calls within a millisecond
  calls.Run(0.01, Seconds(20));
  EXPECT_GT(calls.started.size() - before, 50U);
  EXPECT_EQ(calls.refused_at.size(), 0U);
}

}  // namespace
}  // namespace backprop::exec
