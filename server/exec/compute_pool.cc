#include "server/exec/compute_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "server/base/mutex.h"
#include "server/exec/thread_priority.h"

namespace backprop::exec {
namespace {

// Charged when a task starts, and corrected when it has ended, so that threads that take tasks at
// the same time do not all take those of one share.
constexpr double kExpectedTimeNs = 1e6;

size_t IndexOf(Priority priority) { return priority == Priority::kInteractive ? 0 : 1; }

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

ComputePool::ComputePool(int threads, std::chrono::steady_clock::time_point (*now)())
    : now_(now), main_share_(NewShare()) {
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

bool ComputePool::ByVirtualTime::operator()(const std::pair<double, Share*>& a,
                                            const std::pair<double, Share*>& b) const {
  return a.first != b.first ? a.first < b.first : a.second->number_ < b.second->number_;
}

ComputePool::Share* ComputePool::NewShare(double weight) {
  const base::MutexLock lock(&mu_);
  return &shares_.emplace_back(this, static_cast<int>(shares_.size()), weight);
}

void ComputePool::Post(Priority priority, Task task) {
  PostTo(main_share_, priority, std::move(task));
}

void ComputePool::PostTo(Share* share, Priority priority, Task task) {
  Entry entry{std::move(task), now_()};
  const bool joins = priority == Priority::kInteractive && delay_target().count() > 0;
  if (joins) entry.place = share->delay_.Join();
  const base::MutexLock lock(&mu_);
  Class& in_class = classes_[IndexOf(priority)];
  Queue& queue = share->queues_[IndexOf(priority)];
  if (queue.tasks.empty()) {
    if (queue.running == 0) {
      queue.virtual_time = std::max(queue.virtual_time, in_class.virtual_time);
    }
    in_class.waiting.emplace(queue.virtual_time, share);
  }
  queue.tasks.push_back(std::move(entry));
  ++in_class.tasks;
  changed_.NotifyOne();
}

int64_t ComputePool::waiting(Priority priority) const {
  const base::MutexLock lock(&mu_);
  return classes_[IndexOf(priority)].tasks;
}

int ComputePool::idle() const {
  const base::MutexLock lock(&mu_);
  const int busy = classes_[0].tasks + classes_[1].tasks + running_;
  return std::max(0, threads() - busy);
}

void ComputePool::Charge(Share* share, Priority priority, double time_ns) {
  Class& in_class = classes_[IndexOf(priority)];
  Queue& queue = share->queues_[IndexOf(priority)];
  const bool waits = !queue.tasks.empty();
  if (waits) in_class.waiting.erase({queue.virtual_time, share});
  queue.virtual_time += time_ns / share->weight_;
  if (waits) in_class.waiting.emplace(queue.virtual_time, share);
}

ComputePool::Taken ComputePool::Take() {
  const bool background_turn = interactive_in_a_row_ >= kInteractiveInARow && classes_[1].tasks > 0;
  const auto priority =
      classes_[0].tasks == 0 || background_turn ? Priority::kBackground : Priority::kInteractive;
  interactive_in_a_row_ = priority == Priority::kInteractive ? interactive_in_a_row_ + 1 : 0;
  Class& in_class = classes_[IndexOf(priority)];
  Share* const share = in_class.waiting.begin()->second;
  Queue& queue = share->queues_[IndexOf(priority)];
  in_class.virtual_time = std::max(in_class.virtual_time, queue.virtual_time);
  Taken taken{std::move(queue.tasks.front()), share, priority};
  queue.tasks.pop_front();
  --in_class.tasks;
  if (queue.tasks.empty()) in_class.waiting.erase({queue.virtual_time, share});
  ++queue.running;
  Charge(share, priority, kExpectedTimeNs);
  return taken;
}

void ComputePool::Work() {
  GiveWayToOthers();
  for (;;) {
    Taken taken;
    {
      const base::MutexLock lock(&mu_);
      // A running task may post another one, so threads do not exit before it has ended.
      changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return has_tasks() || (stopping_ && running_ == 0);
      });
      if (!has_tasks()) return;
      taken = Take();
      ++running_;
    }
    Stats& stats = stats_[IndexOf(taken.priority)];
    const auto begin = now_();
    stats.waits.Add(begin - taken.entry.posted);
    if (taken.entry.place > 0) {
      taken.share->delay_.Leave(begin, taken.entry.posted, taken.entry.place, delay_target());
    }
    taken.entry.task();
    taken.entry.task = nullptr;  // releases its objects before the task counts as done
    const auto end = now_();
    const int64_t took_ns = std::chrono::nanoseconds(end - begin).count();
    stats.busy_nanos.Add(took_ns);
    LetOthersRun(end);
    const base::MutexLock lock(&mu_);
    Charge(taken.share, taken.priority, static_cast<double>(took_ns) - kExpectedTimeNs);
    --taken.share->queues_[IndexOf(taken.priority)].running;
    --running_;
    if (stopping_) changed_.NotifyAll();
  }
}

std::optional<Refusal> ComputePool::Share::Refuse(int64_t cost) {
  if (cost <= kInlineCost || delay_target().count() == 0) return std::nullopt;
  const int64_t fewest = kFewestForEachThread * pool_->threads();
  if (!delay_.Refuses(pool_->now_(), fewest, delay_target())) return std::nullopt;
  return Refusal{Refusal::Queue::kThreads, absl::FromChrono(delay_.RetryAfter())};
}

std::optional<Refusal> ComputePool::Share::RefuseSliced(int64_t cost) {
  if (auto refusal = Refuse(cost); refusal.has_value()) return refusal;
  const int64_t since = slices_wait_since_.load(kRelaxed);
  // The time alone may be that of queries that have ended: threads set it in any order.
  if (cost <= kSliceCost || since == 0 || !SlicesWait(continuing_.load(kRelaxed))) {
    return std::nullopt;
  }
  const QueueDelay::Duration stands =
      pool_->now_().time_since_epoch() - QueueDelay::Duration(since);
  if (stands < DelayState::kInterval * delay_target()) return std::nullopt;
  // How long the queries take is not known.
  return Refusal{Refusal::Queue::kThreads, absl::Seconds(1)};
}

bool ComputePool::Share::SlicesWait(int64_t queries) const {
  return delay_target().count() > 0 &&
         absl::ToChronoNanoseconds(kSlice) * queries / pool_->threads() > delay_target();
}

void ComputePool::Share::AddContinuing(int queries) {
  const int64_t before = continuing_.fetch_add(queries, kRelaxed);
  const bool waits = SlicesWait(before + queries);
  if (waits == SlicesWait(before)) return;
  slices_wait_since_.store(waits ? pool_->now_().time_since_epoch().count() : 0, kRelaxed);
}

}  // namespace backprop::exec
