// One order for the mutations of one model.
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

// Runs tasks one at a time, in the order in which they were posted. Thread-safe. Tasks must keep
// the strand alive (Session's hold the session).
class Strand {
 public:
  using Task = absl::AnyInvocable<void()>;
  // Work of fewer floating-point operations than this takes less than a hand-over to the pool.
  static constexpr int64_t kInlineCost = 500'000;

  explicit Strand(ComputePool* pool) : pool_(pool) {}

  // Runs `task` on this thread if nothing is before it and it is cheap. A thread that runs a cheap
  // task also runs the cheap ones that have queued up behind it, until together they are not; all
  // else runs on the pool.
  void Post(int64_t cost, Task task);

 private:
  struct Entry {
    int64_t cost;
    Task task;
  };

  void RunCheap(Entry entry);
  void PostDrain(Entry first);
  void Drain(std::vector<Entry> batch);

  ComputePool* const pool_;
  base::Mutex mu_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Entry> queue_ ABSL_GUARDED_BY(mu_);  // a vector: an idle strand holds no memory
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_STRAND_H_
