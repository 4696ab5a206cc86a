#include "server/exec/compute_pool.h"

#include <algorithm>
#include <utility>

#include "server/base/mutex.h"
#include "server/exec/thread_priority.h"

namespace backprop::exec {

ComputePool::ComputePool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

ComputePool::~ComputePool() {
  {
    const base::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ComputePool::Post(Priority priority, Task task) {
  Entry entry{std::move(task), priority, Clock::now()};
  const base::MutexLock lock(&mu_);
  (priority == Priority::kInteractive ? interactive_ : background_).push_back(std::move(entry));
  changed_.NotifyOne();
}

int64_t ComputePool::waiting(Priority priority) const {
  const base::MutexLock lock(&mu_);
  return static_cast<int64_t>(
      (priority == Priority::kInteractive ? interactive_ : background_).size());
}

int ComputePool::idle() const {
  const base::MutexLock lock(&mu_);
  const auto busy = static_cast<int>(interactive_.size() + background_.size()) + running_;
  return std::max(0, threads() - busy);
}

ComputePool::Entry ComputePool::Take() {
  const bool background_turn = interactive_in_a_row_ >= kInteractiveInARow && !background_.empty();
  auto& queue = interactive_.empty() || background_turn ? background_ : interactive_;
  interactive_in_a_row_ = &queue == &interactive_ ? interactive_in_a_row_ + 1 : 0;
  Entry entry = std::move(queue.front());
  queue.pop_front();
  return entry;
}

void ComputePool::Work() {
  GiveWayToOthers();
  for (;;) {
    Entry entry;
    {
      const base::MutexLock lock(&mu_);
      // A running task may post another one, so threads do not exit before it has ended.
      changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return !interactive_.empty() || !background_.empty() || (stopping_ && running_ == 0);
      });
      if (interactive_.empty() && background_.empty()) return;
      entry = Take();
      ++running_;
    }
    Stats& stats = stats_[static_cast<size_t>(entry.priority)];
    const auto begin = Clock::now();
    stats.waits.Add(begin - entry.posted);
    entry.task();
    entry.task = nullptr;  // releases its objects before the task counts as done
    const auto end = Clock::now();
    stats.busy_nanos.Add(std::chrono::nanoseconds(end - begin).count());
    LetOthersRun(end);
    const base::MutexLock lock(&mu_);
    --running_;
    if (stopping_) changed_.NotifyAll();
  }
}

}  // namespace backprop::exec
