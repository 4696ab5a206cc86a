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
  const base::MutexLock lock(&mu_);
  (priority == Priority::kInteractive ? interactive_ : background_).push_back(std::move(task));
  changed_.NotifyOne();
}

int ComputePool::idle() const {
  const base::MutexLock lock(&mu_);
  const auto busy = static_cast<int>(interactive_.size() + background_.size()) + running_;
  return std::max(0, threads() - busy);
}

ComputePool::Task ComputePool::Take() {
  const bool background_turn = interactive_in_a_row_ >= kInteractiveInARow && !background_.empty();
  auto& queue = interactive_.empty() || background_turn ? background_ : interactive_;
  interactive_in_a_row_ = &queue == &interactive_ ? interactive_in_a_row_ + 1 : 0;
  Task task = std::move(queue.front());
  queue.pop_front();
  return task;
}

void ComputePool::Work() {
  GiveWayToOthers();
  for (;;) {
    Task task;
    {
      const base::MutexLock lock(&mu_);
      // A running task may post another one, so threads do not exit before it has ended.
      changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return !interactive_.empty() || !background_.empty() || (stopping_ && running_ == 0);
      });
      if (interactive_.empty() && background_.empty()) return;
      task = Take();
      ++running_;
    }
    task();
    task = nullptr;  // releases its objects before the task counts as done
    LetOthersRun();
    const base::MutexLock lock(&mu_);
    --running_;
    if (stopping_) changed_.NotifyAll();
  }
}

}  // namespace backprop::exec
