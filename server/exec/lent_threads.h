// Lends idle threads of the pool to one piece of work.
#ifndef BACKPROP_SERVER_EXEC_LENT_THREADS_H_
#define BACKPROP_SERVER_EXEC_LENT_THREADS_H_

#include <cstdint>

#include "server/engine/parallel.h"
#include "server/exec/compute_pool.h"
#include "server/exec/thread_priority.h"

namespace backprop::exec {

// The calling thread computes parts together with the pool's threads that are idle at the time of
// the call. It never waits for a busy thread: if none is idle, it computes all parts itself.
// Thread-safe.
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
