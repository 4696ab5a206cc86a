#include "server/session/run.h"

#include <utility>

#include "server/base/mutex.h"

namespace backprop::session {

void Run::OnFinish(FinishCallback callback) {
  absl::StatusOr<records::RunSummary> outcome;
  {
    const base::MutexLock lock(&mu_);
    if (!summary_.has_value() && parked_.ok()) {
      on_finish_.push_back(std::move(callback));
      return;
    }
    outcome = summary_.has_value() ? absl::StatusOr<records::RunSummary>(*summary_) : parked_;
  }
  callback(outcome);
}

void Run::Finish(const records::RunSummary& summary) {
  // The log is first: a caller that sees finished() finds the summary in it.
  log_.Append(summary);
  std::vector<FinishCallback> callbacks;
  {
    const base::MutexLock lock(&mu_);
    summary_ = summary;
    callbacks.swap(on_finish_);
  }
  // Again, because listeners for later events must learn that there will be none.
  log_.TellListeners();
  for (FinishCallback& callback : callbacks) callback(summary);
}

void Run::Park(const absl::Status& reason) {
  std::vector<FinishCallback> callbacks;
  {
    const base::MutexLock lock(&mu_);
    parked_ = reason;
    callbacks.swap(on_finish_);
  }
  log_.TellListeners();
  for (FinishCallback& callback : callbacks) callback(reason);
}

}  // namespace backprop::session
