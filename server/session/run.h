// One training run: its settings, its log, and how to stop it.
#ifndef BACKPROP_SERVER_SESSION_RUN_H_
#define BACKPROP_SERVER_SESSION_RUN_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/network.h"
#include "server/engine/workspace.h"
#include "server/records/request_key.h"
#include "server/records/run_config.h"
#include "server/records/run_events.h"
#include "server/session/run_log.h"

namespace backprop::session {

// Shared by the session that trains and the calls that follow the run; a Trainer does the work.
// Thread-safe.
class Run {
 public:
  // `key`: the request that started the run. `resumes`: whether the run resumes after a restart of
  // the server. `image`: the stored contents of its log.
  Run(std::string name, int64_t number, const records::RunConfig& config,
      records::RequestKey key = {}, bool resumes = false, records::RunLogImage image = {})
      : name_(std::move(name)),
        number_(number),
        config_(config),
        key_(std::move(key)),
        resumes_(resumes),
        log_(base::kKeptEvents, std::move(image)) {}

  const std::string& name() const { return name_; }  // models/{id}/runs/{n}
  int64_t number() const { return number_; }
  const records::RunConfig& config() const { return config_; }
  const records::RequestKey& key() const { return key_; }
  bool resumes() const { return resumes_; }
  // Approximate maximum of its memory use in bytes, with one report for each iteration.
  int64_t MemoryBytes() const {
    return int64_t{sizeof(Run)} +
           log_.MostBytes(std::min<int64_t>(config_.iterations, 1 << 20) + 2);
  }
  RunLog& log() { return log_; }
  const RunLog& log() const { return log_; }

  // Asks the run to stop before the next step. Only the first reason counts.
  void RequestStop(records::StopReason reason) {
    int none = kNone;
    stop_.compare_exchange_strong(none, static_cast<int>(reason));
  }
  std::optional<records::StopReason> stop_requested() const {
    const int stop = stop_.load(std::memory_order_relaxed);
    if (stop == kNone) return std::nullopt;
    return static_cast<records::StopReason>(stop);
  }

  // An owner is a call that keeps the run active: when the last one is dropped, the run stops with
  // kCancelled. A detached run has no owners. owned(): whether the run was started for such a call.
  // SetOwned must be called before other threads know the run.
  bool owned() const { return owned_; }
  void SetOwned(bool owned) { owned_ = owned; }
  void AddOwner() { owners_.fetch_add(1); }
  void DropOwner() {
    if (owners_.fetch_sub(1) == 1) RequestStop(records::StopReason::kCancelled);
  }

  // Calls `callback` with the summary, or with an error if the run was parked: now if the run has
  // ended or was parked, otherwise when that happens.
  using FinishCallback = absl::AnyInvocable<void(const absl::StatusOr<records::RunSummary>&)>;
  void OnFinish(FinishCallback callback);

  bool finished() const {
    const base::MutexLock lock(&mu_);
    return summary_.has_value();
  }

  // Ends the log with `summary` and calls all callbacks. Called once, by the session.
  void Finish(const records::RunSummary& summary);

  // This server stops working on the run, which has not ended. `reason` is the error for callers
  // that wait for the run or follow it. Called once, instead of Finish().
  void Park(const absl::Status& reason);
  // OK unless the run was parked.
  absl::Status parked() const {
    const base::MutexLock lock(&mu_);
    return parked_;
  }

 private:
  static constexpr int kNone = -1;

  const std::string name_;
  const int64_t number_;
  const records::RunConfig config_;
  const records::RequestKey key_;
  const bool resumes_;
  bool owned_ = false;
  RunLog log_;
  std::atomic<int> stop_{kNone};
  std::atomic<int> owners_{0};
  mutable base::Mutex mu_;
  std::optional<records::RunSummary> summary_ ABSL_GUARDED_BY(mu_);
  absl::Status parked_ ABSL_GUARDED_BY(mu_);
  std::vector<FinishCallback> on_finish_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_H_
