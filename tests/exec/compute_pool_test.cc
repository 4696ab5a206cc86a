#include "server/exec/compute_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

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

// Tasks of two shares. Measures the time of each share until a total time has passed: not the
// number of tasks, because a task takes longer when its thread has to wait for a processor.
class SharesTest : public testing::Test {
 protected:
  void Keep(ComputePool::Share* share, std::atomic<int64_t>* time) {
    share->Post(Priority::kBackground, [this, share, time] {
      const auto start = std::chrono::steady_clock::now();
      std::chrono::nanoseconds passed{0};
      while (passed < std::chrono::microseconds(200)) {
        passed = std::chrono::steady_clock::now() - start;
      }
      if (all.fetch_add(passed.count()) >= kTime) return;
      *time += passed.count();
      Keep(share, time);
    });
  }

  static constexpr int64_t kTime = 1'000'000'000;  // ns
  std::atomic<int64_t> all{0}, first{0}, second{0};
};

TEST_F(SharesTest, AShareWithOneTaskGetsAsMuchTimeAsOneWithManyTasks) {
  {
    ComputePool pool(2);
    ComputePool::Share* const many = pool.NewShare();
    ComputePool::Share* const one = pool.NewShare();
    for (int i = 0; i < 500; ++i) Keep(many, &first);
    Keep(one, &second);
  }
  EXPECT_NEAR(static_cast<double>(second), kTime / 2, kTime / 20);
}

TEST_F(SharesTest, TimeIsDividedByWeight) {
  {
    ComputePool pool(1);
    ComputePool::Share* const light = pool.NewShare(1);
    ComputePool::Share* const heavy = pool.NewShare(3);
    for (int i = 0; i < 4; ++i) {
      Keep(light, &first);
      Keep(heavy, &second);
    }
  }
  EXPECT_NEAR(static_cast<double>(second), kTime * 3 / 4, kTime / 20);
}

TEST_F(SharesTest, AShareDoesNotCatchUpOnTimeInWhichItWasIdle) {
  {
    ComputePool pool(1);
    ComputePool::Share* const busy = pool.NewShare();
    ComputePool::Share* const late = pool.NewShare();
    for (int i = 0; i < 100; ++i) Keep(busy, &first);
    while (all < kTime / 2) std::this_thread::yield();
    for (int i = 0; i < 100; ++i) Keep(late, &second);
  }
  EXPECT_NEAR(static_cast<double>(second), kTime / 4, kTime / 20);
}

}  // namespace
}  // namespace backprop::exec
