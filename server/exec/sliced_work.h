// Runs long work in slices, so that it never occupies a thread for long.
#ifndef BACKPROP_SERVER_EXEC_SLICED_WORK_H_
#define BACKPROP_SERVER_EXEC_SLICED_WORK_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/exec/thread_priority.h"

namespace backprop::exec {

// A Work has three methods, called by one thread at a time:
//   bool cancelled() const         Whether its result is not wanted any more.
//   bool Advance()                 Does a piece of the work, if possible much less than a slice,
//                                  and returns whether there is more.
//   void Finish(absl::Status)      Called once, at the end: OK after the last piece, CANCELLED
//                                  (base::CallerGone) if the work was cancelled before it.

// Does pieces of `work` on the calling thread until a slice (ComputePool::kSlice) is over, then
// continues as background work of the share. Asks whether it is cancelled before each piece.
// `continuing` counts it from its second slice on (ComputePool::Share).
template <class Work>
void ContinueSliced(ComputePool::Share* share, std::shared_ptr<Work> work,
                    ComputePool::Share::Continuing continuing = {}) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + absl::ToChronoNanoseconds(ComputePool::kSlice);
  for (;;) {
    if (work->cancelled()) return work->Finish(base::CallerGone());
    if (!work->Advance()) return work->Finish(absl::OkStatus());
    const auto now = Clock::now();
    if (now >= end) break;
    LetOthersRun(now);
  }
  if (!continuing.counts()) continuing = ComputePool::Share::Continuing(share);
  share->Post(Priority::kBackground,
              [share, work = std::move(work), continuing = std::move(continuing)]() mutable {
                ContinueSliced(share, std::move(work), std::move(continuing));
              });
}

// Starts `work`: on the calling thread if it is cheap (ComputePool::RunOrPost), otherwise on the
// pool. `cost` is in floating-point operations.
template <class Work>
void RunSliced(ComputePool::Share* share, int64_t cost, std::shared_ptr<Work> work) {
  share->RunOrPost(
      cost, [share, work = std::move(work)]() mutable { ContinueSliced(share, std::move(work)); });
}

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_SLICED_WORK_H_
