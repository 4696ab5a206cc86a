// Operations that a run excludes for a short time: they wait for its end instead of being rejected.
//
// A caller that cancels its Train or stops a run, and sends its next request at once, can be
// earlier than the end of the run, by a step or two, and earlier than gRPC's notification that the
// call is cancelled. Therefore an operation that a run excludes is kept until the run ends, if the
// run was already asked to stop; and if the run belongs to a call, it is kept for the time that
// such a notification may take. No thread waits: the end of the run, or a slice after the deadline,
// posts all kept operations to the strand again, in their order. While there are any, later
// operations are queued after them.
#include <algorithm>
#include <utility>

#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"
#include "server/session/session_mutation.h"

namespace backprop::session {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMaxExcluded = 1024;
// If the run was asked to stop. A step, or the final measurement, may take long.
constexpr auto kEndPatience = std::chrono::seconds(10);
// If the call of the run may have been cancelled.
constexpr auto kCancelPatience = std::chrono::milliseconds(500);

}  // namespace

// Until when the operation may be tried again; nothing if it must be rejected. It is also tried
// again at the end of the run.
std::optional<SteadyClock::time_point> Session::MayTryUntil(ExcludedSince* since) {
  const SteadyClock::time_point now = SteadyClock::now();
  if (excluded_.size() >= kMaxExcluded) return std::nullopt;
  if (!since->has_value()) *since = now;
  if (runs_.idle()) {  // the run has ended meanwhile, or earlier operations wait
    PostRetry();
    return now;
  }
  SteadyClock::time_point until = **since;
  if (runs_.active()->stop_requested().has_value()) {
    until += kEndPatience;
  } else if (runs_.active()->owned()) {
    until += kCancelPatience;
  }
  if (until <= now) return std::nullopt;
  return until;
}

// Does not run the operations here, under the lock: the strand runs expensive tasks on the pool.
void Session::PostRetry() {
  if (std::exchange(retry_posted_, true)) return;
  strand_.Post(exec::ComputePool::kInlineCost + 1,
               [self = shared_from_this()] { self->RetryExcluded(); });
}

void Session::RetryExcluded() {
  std::vector<ExcludedOperation> again;
  {
    const base::MutexLock lock(&mu_);
    retry_posted_ = false;
    again.swap(excluded_);
  }
  for (ExcludedOperation& operation : again) operation.again(this);
}

void Session::RetryDue(bool run_ended) {
  if (excluded_.empty()) return;
  const SteadyClock::time_point now = SteadyClock::now();
  const bool due = std::any_of(excluded_.begin(), excluded_.end(),
                               [&](const auto& operation) { return operation.deadline <= now; });
  if (run_ended || due) PostRetry();
}

}  // namespace backprop::session
