// Runs the mutations of one model in one order.
#ifndef BACKPROP_SERVER_EXEC_STRAND_H_
#define BACKPROP_SERVER_EXEC_STRAND_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"

namespace backprop::exec {

// Runs tasks one at a time, in the order in which they were posted. Thread-safe. Each task must
// keep the strand alive (a session's tasks hold the session).
class Strand {
 public:
  using Task = absl::AnyInvocable<void()>;

  explicit Strand(ComputePool::Share* share) : share_(share) {}

  // `cost` is in floating-point operations. Runs `task` on the calling thread if it is cheap
  // (ComputePool::kInlineCost) and no other task of the strand is running or queued. A thread that
  // runs a cheap task also runs the cheap tasks queued meanwhile, until their total cost exceeds
  // kInlineCost; the pool runs all others.
  void Post(int64_t cost, Task task);

 private:
  struct Entry {
    int64_t cost;
    Task task;
  };

  void RunCheap(Entry entry);
  void PostDrain(Entry first);
  void Drain(std::vector<Entry> batch);

  ComputePool::Share* const share_;
  base::Mutex mu_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Entry> queue_ ABSL_GUARDED_BY(mu_);  // a vector: an idle strand holds no memory
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_STRAND_H_
