#include "server/session/strand.h"

#include <utility>

#include "absl/time/clock.h"
#include "server/session/mutex.h"

namespace backprop::session {

void Strand::Post(int64_t cost, Task task) {
  {
    const MutexLock lock(&mu_);
    if (busy_) {
      queue_.push_back(std::move(task));
      return;
    }
    busy_ = true;
  }
  if (cost <= kInlineCost) {
    RunAndLeave(std::move(task));
  } else {
    pool_->Post(Priority::kInteractive,
                [this, task = std::move(task)]() mutable { RunAndLeave(std::move(task)); });
  }
}

// Runs a task while busy_ is ours, then hands on to those that came meanwhile.
void Strand::RunAndLeave(Task task) {
  task();
  {
    const MutexLock lock(&mu_);
    if (queue_.empty()) {
      busy_ = false;
      // The task keeps the strand alive until it is destroyed, after the lock.
    } else {
      pool_->Post(Priority::kInteractive, [this] { Drain(); });
    }
  }
}

// Runs what has queued up, at most for a slice.
void Strand::Drain() {
  const absl::Time end = absl::Now() + ComputePool::kSlice;
  std::vector<Task> batch;
  {
    const MutexLock lock(&mu_);
    batch.swap(queue_);
  }
  size_t done = 0;
  do {
    batch[done++]();
  } while (done < batch.size() && absl::Now() < end);
  const MutexLock lock(&mu_);
  // What was not reached goes before what has come since.
  queue_.insert(queue_.begin(), std::make_move_iterator(batch.begin() + static_cast<int64_t>(done)),
                std::make_move_iterator(batch.end()));
  if (queue_.empty()) {
    busy_ = false;
  } else {
    pool_->Post(Priority::kInteractive, [this] { Drain(); });
  }
}

}  // namespace backprop::session
