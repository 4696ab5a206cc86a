// Work that only reads a model, done in slices so that it never holds a thread for long.
#ifndef BACKPROP_SERVER_RPC_SLICED_WORK_H_
#define BACKPROP_SERVER_RPC_SLICED_WORK_H_

#include <chrono>
#include <memory>
#include <utility>

#include "server/exec/compute_pool.h"
#include "server/exec/strand.h"
#include "server/exec/thread_priority.h"
#include "server/rpc/unary_call.h"

namespace backprop::rpc {

// A Work has `bool Advance()`, which does a piece of much less than a slice where it can and says
// whether there is more, and `void Answer(UnaryCall*)`, which answers the call.

// Does pieces of `work` for a slice on this thread, then goes on through the pool.
template <class Work>
void ContinueSliced(exec::ComputePool* pool, UnaryCall* call, std::shared_ptr<Work> work) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + absl::ToChronoNanoseconds(exec::ComputePool::kSlice);
  for (;;) {
    if (call->cancelled()) return call->Done(CallerGone());
    if (!work->Advance()) return work->Answer(call);
    const auto now = Clock::now();
    if (now >= end) break;
    exec::LetOthersRun(now);
  }
  pool->Post(exec::Priority::kBackground, [pool, call, work = std::move(work)]() mutable {
    ContinueSliced(pool, call, std::move(work));
  });
}

// Does cheap work here and now, other work on the pool. `cost` in floating-point operations.
template <class Work>
void RunSliced(exec::ComputePool* pool, UnaryCall* call, std::shared_ptr<Work> work, int64_t cost) {
  if (cost <= exec::Strand::kInlineCost) return ContinueSliced(pool, call, std::move(work));
  pool->Post(exec::Priority::kInteractive, [pool, call, work = std::move(work)]() mutable {
    ContinueSliced(pool, call, std::move(work));
  });
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SLICED_WORK_H_
