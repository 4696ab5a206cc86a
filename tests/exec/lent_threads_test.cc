#include "server/exec/lent_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "server/exec/compute_pool.h"

namespace backprop::exec {
namespace {

TEST(LentThreadsTest, EveryPartRunsOnceWhateverThePoolDoes) {
  for (int threads : {1, 2, 8}) {
    ComputePool pool(threads);
    LentThreads lent(&pool);
    std::vector<std::thread> callers;
    for (int c = 0; c < 4; ++c) {
      callers.emplace_back([&] {
        for (int64_t parts = 0; parts <= 200; ++parts) {
          std::vector<std::atomic<int>> done(static_cast<size_t>(parts));
          lent.For(parts, [&](int64_t part) { ++done[static_cast<size_t>(part)]; });
          for (const auto& times : done) ASSERT_EQ(times, 1);
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
}

// Parts that wait for each other finish only if an idle thread takes one.
TEST(LentThreadsTest, AnIdleThreadHelps) {
  ComputePool pool(2);
  LentThreads lent(&pool);
  while (pool.idle() < 2) std::this_thread::yield();
  std::atomic<int> arrived{0};
  std::atomic<bool> met{false};
  lent.For(2, [&](int64_t) {
    ++arrived;
    for (int64_t i = 0; arrived < 2 && i < 100'000'000; ++i) std::this_thread::yield();
    if (arrived == 2) met = true;
  });
  EXPECT_TRUE(met);
}

// From within the pool, as a run's slices do: if no other thread is idle, the caller does not wait
// for one.
TEST(LentThreadsTest, TheCallerDoesNotWaitForABusyPool) {
  ComputePool pool(1);
  LentThreads lent(&pool);
  std::atomic<int> parts{0};
  std::atomic<bool> done{false};
  pool.Post(Priority::kBackground, [&] {
    lent.For(5, [&](int64_t) { ++parts; });
    done = true;
  });
  while (!done) std::this_thread::yield();
  EXPECT_EQ(parts, 5);
}

}  // namespace
}  // namespace backprop::exec
