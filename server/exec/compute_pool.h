// The fixed threads on which everything is computed that takes longer than a hand-over.
#ifndef BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
#define BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"

namespace backprop::exec {

// Somebody waits for an answer; or a slice of work that takes long in all.
enum class Priority { kInteractive, kBackground };

// Tasks of one priority start in the order in which they were posted. Interactive tasks go first,
// but after kInteractiveInARow of them a background task gets its turn, so that neither starves.
// A task should take about kSlice and then post its continuation. Thread-safe.
class ComputePool {
 public:
  using Task = absl::AnyInvocable<void()>;
  static constexpr absl::Duration kSlice = absl::Milliseconds(1);
  static constexpr int kInteractiveInARow = 16;

  explicit ComputePool(int threads);
  // Runs what was posted, and what that posts, to the end.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  void Post(Priority priority, Task task);
  int threads() const { return static_cast<int>(threads_.size()); }
  // Threads that have nothing to do and nothing waiting for them, at some moment during the call.
  int idle() const;

 private:
  void Work();
  Task Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable base::Mutex mu_;
  base::CondVar changed_;
  std::deque<Task> interactive_ ABSL_GUARDED_BY(mu_);
  std::deque<Task> background_ ABSL_GUARDED_BY(mu_);
  int interactive_in_a_row_ ABSL_GUARDED_BY(mu_) = 0;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
