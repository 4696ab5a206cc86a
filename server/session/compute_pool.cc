#include "server/session/compute_pool.h"

#include <utility>

namespace backprop::session {

ComputePool::ComputePool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

ComputePool::~ComputePool() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void ComputePool::Post(Priority priority, Task task) {
  absl::MutexLock lock(&mu_);
  (priority == Priority::kInteractive ? interactive_ : background_).push_back(std::move(task));
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
  for (;;) {
    Task task;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &ComputePool::HasWorkOrStops));
      if (interactive_.empty() && background_.empty()) return;
      task = Take();
      ++running_;
    }
    task();
    task = nullptr;  // what it holds is released before it counts as done
    absl::MutexLock lock(&mu_);
    --running_;
  }
}

}  // namespace backprop::session
