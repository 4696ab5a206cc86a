// A fixed set of threads for all computation that takes longer than a hand-over to them.
#ifndef BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
#define BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"
#include "server/exec/queue_delay.h"

namespace backprop::exec {

// kInteractive: a caller waits for the result. kBackground: a slice of long work, also if a caller
// waits for its result.
enum class Priority { kInteractive, kBackground };

// Divides the time of its threads among shares, one for each project, by their weights, for each
// priority separately. Tasks of one share and one priority start in the order in which they were
// posted. Interactive tasks run first, but after kInteractiveInARow of them one background task
// runs, so that neither kind starves. A task should take at most about kSlice and then post its
// continuation. Thread-safe.
//
// Work for which callers wait can be refused before it is posted, when it would wait too long
// (Share::Refuse).
//
// The method of the division is start-time fair queueing (Goyal, Vin, Cheng 1996). Each share has a
// virtual time for each priority: the time that its tasks took, divided by its weight. The next
// task is that of the share with the least virtual time. A share that was idle begins at the
// virtual time of the task that started last, so it does not catch up on what it did not use.
class ComputePool {
 public:
  using Task = absl::AnyInvocable<void()>;
  class Share;
  static constexpr absl::Duration kSlice = absl::Milliseconds(1);
  static constexpr int kInteractiveInARow = 16;
  // Work of at most this many floating-point operations takes less than a hand-over to the pool.
  static constexpr int64_t kInlineCost = 500'000;
  // Work of more operations may take longer than one slice.
  static constexpr int64_t kSliceCost = 50 * kInlineCost;
  // For each thread as many tasks of a share may wait without any being refused: the calls of a few
  // callers, each of which waits for its response, are never an overload.
  static constexpr int kFewestForEachThread = 4;

  // `now` measures what tasks cost; it must be thread-safe.
  explicit ComputePool(
      int threads, std::chrono::steady_clock::time_point (*now)() = std::chrono::steady_clock::now);
  // Runs all posted tasks, and the tasks that these post, before it returns.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // A share that exists as long as the pool. `weight` must be positive: of two shares with tasks
  // at all times, the one with the double weight gets the double time.
  Share* NewShare(double weight = 1);
  // For tasks that belong to no project.
  Share* main_share() { return main_share_; }
  void Post(Priority priority, Task task);
  // Runs `task`, a void(), on the calling thread if it is cheap (kInlineCost); otherwise posts it
  // as interactive. `cost` is in floating-point operations.
  template <class Callable>
  void RunOrPost(int64_t cost, Callable task) {
    if (cost <= kInlineCost) return task();
    Post(Priority::kInteractive, std::move(task));
  }
  int threads() const { return static_cast<int>(threads_.size()); }
  // The time that work of calls should wait at most (queue_delay.h). Zero, the default: no work is
  // refused. Call before work is posted.
  void SetDelayTarget(absl::Duration target) {
    delay_target_ns_.store(absl::ToInt64Nanoseconds(target), std::memory_order_relaxed);
  }
  QueueDelay::Duration delay_target() const {
    return QueueDelay::Duration(delay_target_ns_.load(std::memory_order_relaxed));
  }
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
    Clock::time_point posted;
    int64_t place = 0;  // of QueueDelay::Join; 0: it did not join
  };
  // The tasks of one share and one priority.
  struct Queue {
    std::deque<Entry> tasks;
    int running = 0;
    double virtual_time = 0;  // in nanoseconds
  };
  struct ByVirtualTime {
    bool operator()(const std::pair<double, Share*>& a, const std::pair<double, Share*>& b) const;
  };
  // All tasks of one priority.
  struct Class {
    std::set<std::pair<double, Share*>, ByVirtualTime> waiting;  // shares with waiting tasks
    int tasks = 0;                                               // that wait
    double virtual_time = 0;  // of the share whose task started last
  };
  struct Taken {
    Entry entry;
    Share* share = nullptr;
    Priority priority = Priority::kInteractive;
  };

  void Work();
  void PostTo(Share* share, Priority priority, Task task);
  Taken Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Adds `time` to the virtual time of a share.
  void Charge(Share* share, Priority priority, double time_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool has_tasks() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return classes_[0].tasks + classes_[1].tasks > 0;
  }

  Clock::time_point (*const now_)();
  mutable base::Mutex mu_;
  base::CondVar changed_;
  std::array<Class, 2> classes_ ABSL_GUARDED_BY(mu_);  // by priority
  std::deque<Share> shares_ ABSL_GUARDED_BY(mu_);      // a deque: shares stay where they are
  Share* const main_share_;
  int interactive_in_a_row_ ABSL_GUARDED_BY(mu_) = 0;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::array<Stats, 2> stats_;  // by priority
  std::atomic<int64_t> delay_target_ns_{0};
  std::vector<std::thread> threads_;
};

// Why work should not be posted now.
struct Refusal {
  enum class Queue {
    kThreads,  // of the share: for a thread of the pool
    kModel,    // of the strand: for earlier work of the same model
  };
  Queue queue;
  absl::Duration retry_after;  // when the present queue will be done, approximately
};

// The tasks of one project. Thread-safe. Owned by its pool.
class ComputePool::Share {
 public:
  // Counts a query of which a part is left to the background, until it is destroyed.
  class Continuing {
   public:
    Continuing() = default;
    explicit Continuing(Share* share) : share_(share) { share_->AddContinuing(1); }
    Continuing(Continuing&& other) noexcept : share_(std::exchange(other.share_, nullptr)) {}
    Continuing& operator=(Continuing&& other) noexcept {
      std::swap(share_, other.share_);
      return *this;
    }
    ~Continuing() {
      if (share_ != nullptr) share_->AddContinuing(-1);
    }
    bool counts() const { return share_ != nullptr; }

   private:
    Share* share_ = nullptr;
  };

  Share(ComputePool* pool, int number, double weight)
      : pool_(pool), number_(number), weight_(weight) {}

  void Post(Priority priority, Task task) { pool_->PostTo(this, priority, std::move(task)); }
  // See ComputePool.
  template <class Callable>
  void RunOrPost(int64_t cost, Callable task) {
    if (cost <= kInlineCost) return task();
    Post(Priority::kInteractive, std::move(task));
  }
  // Whether work of a call should be refused, because the share's interactive tasks wait for longer
  // than the pool's delay target (queue_delay.h). Cheap work, which runs on the calling thread, is
  // not. `cost` is in floating-point operations.
  std::optional<Refusal> Refuse(int64_t cost);
  // The same for a query that is divided into slices (sliced_work.h). Work of more than kSliceCost
  // is also refused if for an interval each slice of the share's queries has waited for more than
  // the target because of the others. Runs do not count: they take what is left, and no caller
  // waits for their slices.
  std::optional<Refusal> RefuseSliced(int64_t cost);
  QueueDelay::Duration delay_target() const { return pool_->delay_target(); }
  void SetWeight(double weight) {
    const base::MutexLock lock(&pool_->mu_);
    weight_ = weight;
  }

 private:
  friend class ComputePool;

  void AddContinuing(int queries);
  // Whether a slice of a query waits for longer than the target for those of `queries` queries.
  bool SlicesWait(int64_t queries) const;

  ComputePool* const pool_;
  const int number_;
  QueueDelay delay_;                           // of interactive tasks
  std::atomic<int64_t> continuing_{0};         // queries
  std::atomic<int64_t> slices_wait_since_{0};  // nanoseconds of the steady clock; 0: they do not
  // Guarded by pool_->mu_.
  double weight_;
  std::array<Queue, 2> queues_;  // by priority
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_COMPUTE_POOL_H_
