#include "server/exec/strand.h"

#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/mutex.h"

namespace backprop::exec {

Strand::Entry Strand::MakeEntry(int64_t cost, Task task, Wait wait) {
  Entry entry{cost, std::move(task)};
  if (wait == Wait::kIgnored || cost <= ComputePool::kInlineCost ||
      share_->delay_target().count() == 0) {
    return entry;
  }
  entry.place = delay_.Join();
  entry.joined = std::chrono::steady_clock::now();
  return entry;
}

void Strand::Post(int64_t cost, Task task, Wait wait) {
  Entry entry = MakeEntry(cost, std::move(task), wait);
  {
    const base::MutexLock lock(&mu_);
    if (busy_) {
      queue_.push_back(std::move(entry));
      return;
    }
    busy_ = true;
  }
  if (cost <= ComputePool::kInlineCost) {
    RunCheap(std::move(entry));
  } else {
    PostDrain(std::move(entry));
  }
}

std::optional<Refusal> Strand::Refuse(int64_t cost) {
  if (cost <= ComputePool::kInlineCost) return std::nullopt;
  const auto now = std::chrono::steady_clock::now();
  if (delay_.Refuses(now, kFewest, share_->delay_target())) {
    return Refusal{Refusal::Queue::kModel, absl::FromChrono(delay_.RetryAfter())};
  }
  return share_->Refuse(cost);
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
    Entry& entry = batch[i++];
    if (entry.place > 0) {
      delay_.Leave(std::chrono::steady_clock::now(), entry.joined, entry.place,
                   share_->delay_target());
    }
    entry.task();
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
