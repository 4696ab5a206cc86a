#include "server/exec/strand.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "server/exec/compute_pool.h"
#include "tests/notification.h"

namespace backprop::exec {
namespace {

TEST(StrandTest, CheapWorkOnAnIdleStrandRunsOnTheCallersThread) {
  ComputePool pool(1);
  const auto strand =
      std::make_shared<Strand>(pool.main_share());  // kept alive by its tasks, as required
  std::thread::id thread;
  strand->Post(0, [&, strand] { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
  Notification done;
  strand->Post(ComputePool::kInlineCost + 1, [&, strand] {
    thread = std::this_thread::get_id();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(StrandTest, AThreadThatRunsACheapTaskRunsTheCheapTasksAfterIt) {
  ComputePool pool(1);
  const auto strand = std::make_shared<Strand>(pool.main_share());
  std::vector<std::thread::id> threads;
  Notification first_runs, proceed, last;
  const auto record = [&] { threads.push_back(std::this_thread::get_id()); };
  std::thread runner([&, strand] {
    strand->Post(1, [&, strand] {
      record();
      first_runs.Notify();
      proceed.WaitForNotification();
    });
  });
  first_runs.WaitForNotification();
  strand->Post(1, [&, strand] { record(); });
  strand->Post(ComputePool::kInlineCost - 2,
               [&, strand] { record(); });     // together with the earlier ones: cheap
  strand->Post(1, [&, strand] { record(); });  // not with this one
  strand->Post(1, [&, strand] {
    record();
    last.Notify();
  });
  const auto runner_id = runner.get_id();
  proceed.Notify();
  last.WaitForNotification();
  runner.join();
  ASSERT_EQ(threads.size(), 5U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(threads[i], runner_id) << i;
  for (size_t i = 3; i < 5; ++i) {
    EXPECT_NE(threads[i], runner_id) << i;
    EXPECT_NE(threads[i], std::this_thread::get_id()) << i;
  }
}

TEST(StrandTest, TasksRunOneAtATimeInOrder) {
  std::vector<std::vector<int>> seen(4);
  std::atomic<int> inside{0};
  {
    ComputePool pool(4);
    const auto strand = std::make_shared<Strand>(pool.main_share());
    std::atomic<int> done{0};
    std::vector<std::thread> callers;
    for (size_t caller = 0; caller < seen.size(); ++caller) {
      callers.emplace_back([&, caller] {
        for (int i = 0; i < 500; ++i) {
          strand->Post(i % 3 == 0 ? ComputePool::kInlineCost + 1 : 0, [&, strand, caller, i] {
            EXPECT_EQ(inside.fetch_add(1), 0);
            seen[caller].push_back(i);  // no lock needed: the strand serializes
            inside.fetch_sub(1);
            ++done;
          });
        }
      });
    }
    for (auto& caller : callers) caller.join();
    while (done < 2000) std::this_thread::yield();
  }
  for (const auto& order : seen) {
    ASSERT_EQ(order.size(), 500U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  }
}

// A task posted by a task runs after those that were queued before.
TEST(StrandTest, ATaskMayPostToItsStrand) {
  std::string order;
  Notification done;
  ComputePool pool(1);
  const auto strand = std::make_shared<Strand>(pool.main_share());
  strand->Post(0, [&, strand] {
    strand->Post(0, [&, strand] {
      order += 'b';
      done.Notify();
    });
    order += 'a';
  });
  done.WaitForNotification();
  EXPECT_EQ(order, "ab");
}

// Posts tasks of five milliseconds, and returns what Refuse says when half of them wait.
std::optional<Refusal> RefusalBehind(Strand::Wait wait, int64_t cost) {
  constexpr int kTasks = 60;
  ComputePool pool(2);
  pool.SetDelayTarget(absl::Milliseconds(1));
  const auto strand = std::make_shared<Strand>(pool.NewShare());
  std::optional<Refusal> refusal;
  Notification done;
  for (int i = 0; i < kTasks; ++i) {
    strand->Post(
        ComputePool::kInlineCost + 1,
        [&, strand, i] {
          absl::SleepFor(absl::Milliseconds(5));
          if (i == kTasks / 2) refusal = strand->Refuse(cost);
          if (i == kTasks - 1) done.Notify();
        },
        wait);
  }
  done.WaitForNotification();
  return refusal;
}

TEST(StrandTest, RefusesExpensiveTasksWhileOthersWaitTooLong) {
  const auto refusal = RefusalBehind(Strand::Wait::kCounts, ComputePool::kInlineCost + 1);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->queue, Refusal::Queue::kModel);
  EXPECT_GE(refusal->retry_after, absl::Milliseconds(100));
}

TEST(StrandTest, RefusesNoCheapTask) {
  EXPECT_FALSE(RefusalBehind(Strand::Wait::kCounts, ComputePool::kInlineCost).has_value());
}

TEST(StrandTest, TheTasksOfStreamsDoNotCount) {
  EXPECT_FALSE(RefusalBehind(Strand::Wait::kIgnored, ComputePool::kInlineCost + 1).has_value());
}

}  // namespace
}  // namespace backprop::exec
