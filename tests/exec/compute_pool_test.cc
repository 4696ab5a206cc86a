#include "server/exec/compute_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "tests/notification.h"

namespace backprop::exec {
namespace {

TEST(ComputePoolTest, TheDestructorRunsAllTasksAndThoseThatTasksPost) {
  std::atomic<int> done{0};
  {
    ComputePool pool(2);
    for (int i = 0; i < 100; ++i) {
      pool.Post(Priority::kBackground, [&] {
        pool.Post(Priority::kInteractive, [&] { ++done; });
        ++done;
      });
    }
  }
  EXPECT_EQ(done, 200);
}

TEST(ComputePoolTest, ItsThreadsHaveALowerPriority) {
  int nice = 0;
  {
    ComputePool pool(1);
    pool.Post(Priority::kBackground,
              [&] { nice = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())); });
  }
  EXPECT_GE(nice, 5);
  EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())),
            getpriority(PRIO_PROCESS, static_cast<id_t>(getpid())))
      << "other threads keep their priority";
}

// While the only thread is blocked, queues both kinds, and checks the order in which they run.
TEST(ComputePoolTest, InteractiveTasksRunFirstButDoNotStarveBackgroundTasks) {
  std::string order;
  {
    ComputePool pool(1);
    Notification held, go;
    pool.Post(Priority::kBackground, [&] {
      held.Notify();
      go.WaitForNotification();
    });
    held.WaitForNotification();
    for (int i = 0; i < 3; ++i) pool.Post(Priority::kBackground, [&] { order += 'b'; });
    for (int i = 0; i < 40; ++i) pool.Post(Priority::kInteractive, [&] { order += 'i'; });
    go.Notify();
  }
  const std::string sixteen(ComputePool::kInteractiveInARow, 'i');
  EXPECT_EQ(order, sixteen + "b" + sixteen + "b" + std::string(8, 'i') + "b");
}

// Tasks of two shares on one thread, each of which takes the same time on a clock of the test.
// Counts how many of each run until a number of tasks has run.
class SharesTest : public testing::Test {
 protected:
  // Runs tasks while `post` posts the first ones.
  void Run(absl::FunctionRef<void(ComputePool*)> post) {
    ComputePool pool(1, [] { return std::chrono::steady_clock::time_point(clock.load()); });
    Notification posted;
    pool.Post(Priority::kInteractive, [&] { posted.WaitForNotification(); });
    post(&pool);
    posted.Notify();
    // The destructor runs all tasks.
  }
  void Keep(ComputePool::Share* share, int* count) {
    share->Post(Priority::kBackground, [this, share, count] {
      clock = clock.load() + std::chrono::microseconds(200);
      if (all == kTasks) return;
      if (++all == kTasks / 2 && at_half) at_half();
      ++*count;
      Keep(share, count);
    });
  }

  static constexpr int kTasks = 2000;
  inline static std::atomic<std::chrono::steady_clock::duration> clock{};
  std::function<void()> at_half;
  int all = 0, first = 0, second = 0;
};

TEST_F(SharesTest, AShareWithOneTaskGetsAsMuchTimeAsOneWithManyTasks) {
  Run([this](ComputePool* pool) {
    ComputePool::Share* const many = pool->NewShare();
    ComputePool::Share* const one = pool->NewShare();
    for (int i = 0; i < 500; ++i) Keep(many, &first);
    Keep(one, &second);
  });
  EXPECT_NEAR(second, kTasks / 2, 1);
}

// A task is charged when it starts, so that the second thread does not take the same share.
TEST(ComputePoolTest, ThreadsThatTakeTasksAtTheSameTimeTakeThoseOfDifferentShares) {
  std::array<std::atomic<int>, 2> started{};
  {
    ComputePool pool(2);
    ComputePool::Share* const shares[] = {pool.NewShare(), pool.NewShare()};
    Notification posted, both;
    std::atomic<int> running{0};
    for (int i = 0; i < 2; ++i) {
      pool.Post(Priority::kInteractive, [&] { posted.WaitForNotification(); });
    }
    for (size_t share = 0; share < 2; ++share) {
      for (int i = 0; i < 10; ++i) {
        shares[share]->Post(Priority::kBackground, [&, share] {
          const int order = running++;
          if (order < 2) ++started[share];
          if (order == 1) both.Notify();
          both.WaitForNotification();
        });
      }
    }
    posted.Notify();
  }
  EXPECT_EQ(started[0], 1);
  EXPECT_EQ(started[1], 1);
}

TEST_F(SharesTest, TimeIsDividedByWeight) {
  Run([this](ComputePool* pool) {
    ComputePool::Share* const light = pool->NewShare(1);
    ComputePool::Share* const heavy = pool->NewShare(3);
    for (int i = 0; i < 4; ++i) {
      Keep(light, &first);
      Keep(heavy, &second);
    }
  });
  EXPECT_NEAR(second, kTasks * 3 / 4, 2);
}

TEST_F(SharesTest, AShareDoesNotCatchUpOnTimeInWhichItWasIdle) {
  Run([this](ComputePool* pool) {
    ComputePool::Share* const busy = pool->NewShare();
    ComputePool::Share* const late = pool->NewShare();
    for (int i = 0; i < 100; ++i) Keep(busy, &first);
    at_half = [this, late] {
      for (int i = 0; i < 100; ++i) Keep(late, &second);
    };
  });
  EXPECT_NEAR(second, kTasks / 4, 1);
}

// Work of five milliseconds, and what Refuse says when half of the tasks wait.
TEST(ComputePoolTest, AShareWhoseTasksWaitTooLongRefusesExpensiveWork) {
  constexpr int kTasks = 60;
  std::optional<Refusal> expensive, cheap, of_another;
  ComputePool pool(1);
  pool.SetDelayTarget(absl::Milliseconds(1));
  ComputePool::Share* const share = pool.NewShare();
  ComputePool::Share* const other = pool.NewShare();
  EXPECT_FALSE(share->Refuse(ComputePool::kInlineCost + 1).has_value());
  Notification done;
  for (int i = 0; i < kTasks; ++i) {
    share->Post(Priority::kInteractive, [&, i] {
      absl::SleepFor(absl::Milliseconds(5));
      if (i == kTasks / 2) {
        expensive = share->Refuse(ComputePool::kInlineCost + 1);
        cheap = share->Refuse(ComputePool::kInlineCost);
        of_another = other->Refuse(ComputePool::kInlineCost + 1);
      }
      if (i == kTasks - 1) done.Notify();
    });
  }
  done.WaitForNotification();
  ASSERT_TRUE(expensive.has_value());
  EXPECT_EQ(expensive->queue, Refusal::Queue::kThreads);
  // At least five milliseconds for each of those that waited.
  EXPECT_GE(expensive->retry_after, absl::Milliseconds(100));
  EXPECT_LE(expensive->retry_after, absl::Seconds(5));
  EXPECT_FALSE(cheap.has_value()) << "it runs on the calling thread";
  EXPECT_FALSE(of_another.has_value()) << "another project does not wait for these tasks";
  EXPECT_FALSE(share->Refuse(ComputePool::kInlineCost + 1).has_value()) << "the queue is empty";
}

TEST(ComputePoolTest, WithoutATargetNothingIsRefused) {
  ComputePool pool(1);
  std::optional<Refusal> refusal;
  Notification done;
  for (int i = 0; i < 60; ++i) {
    pool.Post(Priority::kInteractive, [&, i] {
      absl::SleepFor(absl::Milliseconds(1));
      if (i == 30) refusal = pool.main_share()->Refuse(ComputePool::kInlineCost + 1);
      if (i == 59) done.Notify();
    });
  }
  done.WaitForNotification();
  EXPECT_FALSE(refusal.has_value());
}

TEST(ComputePoolTest, BackgroundTasksDoNotCountAsQueue) {
  ComputePool pool(1);
  pool.SetDelayTarget(absl::Milliseconds(1));
  std::optional<Refusal> refusal;
  Notification done;
  for (int i = 0; i < 60; ++i) {
    pool.Post(Priority::kBackground, [&, i] {
      absl::SleepFor(absl::Milliseconds(2));
      if (i == 30) refusal = pool.main_share()->Refuse(ComputePool::kInlineCost + 1);
      if (i == 59) done.Notify();
    });
  }
  done.WaitForNotification();
  EXPECT_FALSE(refusal.has_value()) << "runs are not an overload";
}

}  // namespace
}  // namespace backprop::exec
