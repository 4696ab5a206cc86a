// A fixed set of threads for all computation that takes longer than a hand-over to them.
#ifndef BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
#define BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"

namespace backprop::exec {

// kInteractive: a caller waits for the result. kBackground: a slice of long work, also if a caller
// waits for its result.
enum class Priority { kInteractive, kBackground };

// Tasks of one priority start in the order in which they were posted. Interactive tasks run first,
// but after kInteractiveInARow of them one background task runs, so that neither kind starves.
// A task should take at most about kSlice and then post its continuation. Thread-safe.
class ComputePool {
 public:
  using Task = absl::AnyInvocable<void()>;
  static constexpr absl::Duration kSlice = absl::Milliseconds(1);
  static constexpr int kInteractiveInARow = 16;
  // Work of at most this many floating-point operations takes less than a hand-over to the pool.
  static constexpr int64_t kInlineCost = 500'000;

  explicit ComputePool(int threads);
  // Runs all posted tasks, and the tasks that these post, before it returns.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  void Post(Priority priority, Task task);
  // Runs `task`, a void(), on the calling thread if it is cheap (kInlineCost); otherwise posts it
  // as interactive. `cost` is in floating-point operations.
  template <class Callable>
  void RunOrPost(int64_t cost, Callable task) {
    if (cost <= kInlineCost) return task();
    Post(Priority::kInteractive, std::move(task));
  }
  int threads() const { return static_cast<int>(threads_.size()); }
  // Number of threads without a running or waiting task, at some moment during the call.
  int idle() const;

  // What tasks of one priority have cost so far.
  struct Stats {
    base::TimeHistogram waits;  // from Post to the start of the task
    base::Counter busy_nanos;   // run time of the tasks that have ended
  };
  const Stats& stats(Priority priority) const { return stats_[static_cast<size_t>(priority)]; }
  // Tasks of one priority that wait now.
  int64_t waiting(Priority priority) const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Task task;
    Priority priority = Priority::kInteractive;
    Clock::time_point posted;
  };

  void Work();
  Entry Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable base::Mutex mu_;
  base::CondVar changed_;
  std::deque<Entry> interactive_ ABSL_GUARDED_BY(mu_);
  std::deque<Entry> background_ ABSL_GUARDED_BY(mu_);
  int interactive_in_a_row_ ABSL_GUARDED_BY(mu_) = 0;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::array<Stats, 2> stats_;  // by priority
  std::vector<std::thread> threads_;
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
