// The pool's idle threads, lent to one piece of work.
#ifndef BACKPROP_SERVER_EXEC_LENT_THREADS_H_
#define BACKPROP_SERVER_EXEC_LENT_THREADS_H_

#include <cstdint>

#include "server/engine/parallel.h"
#include "server/exec/compute_pool.h"
#include "server/exec/thread_priority.h"

namespace backprop::exec {

// The calling thread computes parts, and so do as many threads of the pool as have nothing else to
// do when it asks. It never waits for a thread that is busy elsewhere: with none idle it computes
// all parts itself. Thread-safe.
class LentThreads final : public engine::Parallel {
 public:
  explicit LentThreads(ComputePool* pool) : pool_(pool) {}
  void For(int64_t parts, engine::PartTask task) override;
  void Pause() override { LetOthersRun(); }

 private:
  ComputePool* const pool_;
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_LENT_THREADS_H_
