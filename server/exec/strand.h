// Runs the mutations of one model in one order.
#ifndef BACKPROP_SERVER_EXEC_STRAND_H_
#define BACKPROP_SERVER_EXEC_STRAND_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"
#include "server/exec/queue_delay.h"

namespace backprop::exec {

// Runs tasks one at a time, in the order in which they were posted. Thread-safe. Each task must
// keep the strand alive (a session's tasks hold the session).
class Strand {
 public:
  using Task = absl::AnyInvocable<void()>;
  // Whether the wait of a task counts for Refuse. Those of a stream, which the server reads only as
  // fast as it answers, do not.
  enum class Wait { kIgnored, kCounts };
  // As many tasks that count may wait without any being refused.
  static constexpr int kFewest = 8;

  explicit Strand(ComputePool::Share* share) : share_(share) {}

  // `cost` is in floating-point operations. Runs `task` on the calling thread if it is cheap
  // (ComputePool::kInlineCost) and no other task of the strand is running or queued. A thread that
  // runs a cheap task also runs the cheap tasks queued meanwhile, until their total cost exceeds
  // kInlineCost; the pool runs all others.
  void Post(int64_t cost, Task task, Wait wait = Wait::kIgnored);

  // Whether a task of this cost should be refused, because tasks of the strand, or those of its
  // share, wait for longer than the pool's delay target (queue_delay.h). Cheap ones are not.
  std::optional<Refusal> Refuse(int64_t cost);

 private:
  struct Entry {
    int64_t cost;
    Task task;
    int64_t place = 0;  // of QueueDelay::Join; 0: it did not join
    QueueDelay::TimePoint joined = {};
  };

  Entry MakeEntry(int64_t cost, Task task, Wait wait);
  void RunCheap(Entry entry);
  void PostDrain(Entry first);
  void Drain(std::vector<Entry> batch);

  ComputePool::Share* const share_;
  QueueDelay delay_;  // of tasks that count and are not cheap
  base::Mutex mu_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Entry> queue_ ABSL_GUARDED_BY(mu_);  // a vector: an idle strand holds no memory
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_STRAND_H_
