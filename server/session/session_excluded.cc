// Operations that a run stands in the way of for a moment: they wait for its end instead of being
// refused.
//
// A caller that cancels its Train, or has stopped a run, and goes on at once is ahead of the run by
// a step or two, and of gRPC's news that the call is cancelled. So an operation that a run excludes
// is kept, when the run is asked to stop already, until the run ends; and when the run belongs to a
// call, for as long as such news takes. No thread waits: the end of the run, or one of its slices
// when the time is up, puts all of them on the strand once more, in their order. While there are
// any, later operations queue up behind them.
#include <algorithm>
#include <utility>

#include "server/base/mutex.h"
#include "server/exec/strand.h"
#include "server/session/session_impl.h"

namespace backprop::session {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMaxExcluded = 1024;
// Of a run that was asked to stop. A step, or its last measurement, may take long.
constexpr auto kEndPatience = std::chrono::seconds(10);
// Of a run whose call may have been cancelled.
constexpr auto kCancelPatience = std::chrono::milliseconds(500);

}  // namespace

// Until when the operation may be tried again, if at all; it is so at the end of the run.
std::optional<SteadyClock::time_point> Session::MayTryUntil(ExcludedSince* since) {
  const SteadyClock::time_point now = SteadyClock::now();
  if (excluded_.size() >= kMaxExcluded) return std::nullopt;
  if (!since->has_value()) *since = now;
  if (run_ == nullptr) {  // it has ended meanwhile, or others are before this one
    PostRetry();
    return now;
  }
  SteadyClock::time_point until = **since;
  if (run_->stop_requested().has_value()) {
    until += kEndPatience;
  } else if (run_->owned()) {
    until += kCancelPatience;
  }
  if (until <= now) return std::nullopt;
  return until;
}

// Never runs here, under the lock: the strand takes what is not cheap to the pool.
void Session::PostRetry() {
  if (std::exchange(retry_posted_, true)) return;
  strand_.Post(exec::Strand::kInlineCost + 1,
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
  const base::MutexLock lock(&mu_);
  if (excluded_.empty()) return;
  const SteadyClock::time_point now = SteadyClock::now();
  const bool due = std::any_of(excluded_.begin(), excluded_.end(),
                               [&](const auto& operation) { return operation.deadline <= now; });
  if (run_ended || due) PostRetry();
}

}  // namespace backprop::session
