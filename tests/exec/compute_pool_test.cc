#include "server/exec/compute_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <string>

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

}  // namespace
}  // namespace backprop::exec
