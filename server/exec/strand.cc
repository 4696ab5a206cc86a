#include "server/exec/strand.h"

#include <utility>

#include "absl/time/clock.h"
#include "server/base/mutex.h"

namespace backprop::exec {

void Strand::Post(int64_t cost, Task task) {
  {
    const base::MutexLock lock(&mu_);
    if (busy_) {
      queue_.push_back({cost, std::move(task)});
      return;
    }
    busy_ = true;
  }
  if (cost <= ComputePool::kInlineCost) {
    RunCheap({cost, std::move(task)});
  } else {
    PostDrain({cost, std::move(task)});
  }
}

// Runs entries; the caller has set busy_. At any time one entry keeps the strand alive: a task is
// destroyed only after the next one was taken, or, if there is none, without holding the lock.
void Strand::RunCheap(Entry entry) {
  int64_t cost = 0;
  for (;;) {
    entry.task();
    cost += entry.cost;
    Entry next;
    {
      const base::MutexLock lock(&mu_);
      if (queue_.empty()) {
        busy_ = false;
        std::vector<Entry>().swap(queue_);
        return;
      }
      next = std::move(queue_.front());
      queue_.erase(queue_.begin());
    }
    if (cost + next.cost > ComputePool::kInlineCost) return PostDrain(std::move(next));
    entry = std::move(next);
  }
}

void Strand::PostDrain(Entry first) {
  std::vector<Entry> batch;
  batch.push_back(std::move(first));
  share_->Post(Priority::kInteractive,
               [this, batch = std::move(batch)]() mutable { Drain(std::move(batch)); });
}

// Runs `batch` and the entries queued meanwhile, for at most one slice.
void Strand::Drain(std::vector<Entry> batch) {
  const absl::Time end = absl::Now() + ComputePool::kSlice;
  for (size_t i = 0;;) {
    batch[i++].task();
    if (i == batch.size()) {
      std::vector<Entry> more;
      const base::MutexLock lock(&mu_);
      more.swap(queue_);
      if (more.empty()) {
        busy_ = false;
        return;
      }
      batch.swap(more);
      i = 0;
    }
    if (absl::Now() < end) continue;
    batch.erase(batch.begin(), batch.begin() + static_cast<int64_t>(i));
    share_->Post(Priority::kInteractive,
                 [this, batch = std::move(batch)]() mutable { Drain(std::move(batch)); });
    return;
  }
}

}  // namespace backprop::exec
