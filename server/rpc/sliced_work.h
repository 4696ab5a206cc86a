// Runs work that only reads a model. It runs in slices, so that it never occupies a thread for
// long.
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

// A Work has two methods, called by one thread at a time:
//   bool Advance()            Does a piece of the work, if possible much less than a slice, and
//                             returns whether there is more.
//   void Answer(UnaryCall*)   Responds to the call. Called after the last piece.

// Does pieces of `work` on the calling thread until a slice (ComputePool::kSlice) is over, then
// continues on the pool. If the caller cancels, the call ends with CANCELLED before the next piece.
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

// Starts `work`: on the calling thread if it is cheap (Strand::kInlineCost), otherwise on the pool.
// `cost` is in floating-point operations.
template <class Work>
void RunSliced(exec::ComputePool* pool, UnaryCall* call, std::shared_ptr<Work> work, int64_t cost) {
  if (cost <= exec::Strand::kInlineCost) return ContinueSliced(pool, call, std::move(work));
  pool->Post(exec::Priority::kInteractive, [pool, call, work = std::move(work)]() mutable {
    ContinueSliced(pool, call, std::move(work));
  });
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SLICED_WORK_H_
