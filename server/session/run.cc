#include "server/session/run.h"

#include <utility>

#include "server/session/mutex.h"

namespace backprop::session {

void Run::OnFinish(FinishCallback callback) {
  std::optional<RunSummary> summary;
  {
    const MutexLock lock(&mu_);
    if (!summary_.has_value()) {
      on_finish_.push_back(std::move(callback));
      return;
    }
    summary = summary_;
  }
  callback(*summary);
}

void Run::Finish(const RunSummary& summary) {
  // The log first: who sees finished() finds the summary there.
  log_.Append(summary);
  std::vector<FinishCallback> callbacks;
  {
    const MutexLock lock(&mu_);
    summary_ = summary;
    callbacks.swap(on_finish_);
  }
  for (FinishCallback& callback : callbacks) callback(summary);
}

}  // namespace backprop::session
