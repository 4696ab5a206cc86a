// One training run: its settings, its log, and how to end it.
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
#include "server/session/checkpoint.h"
#include "server/session/request_key.h"
#include "server/session/run_log.h"
#include "server/session/unfinished_epoch.h"

namespace backprop::session {

// When a run that does not get better ends.
struct EarlyStopping {
  int64_t patience = 10;  // ≥ 1, epochs
  double min_delta = 0;   // ≥ 0
  bool restore_best = true;
};

// What a run does; valid by construction.
struct RunConfig {
  int64_t iterations = 1;  // ≥ 1
  int64_t batch_size = 1;  // in [1, rows trained on]
  bool shuffle = false;
  int64_t report_every = 1;  // ≥ 1
  // Longest time between two reports; those of report_every come besides.
  absl::Duration report_interval = absl::InfiniteDuration();
  double validation_split = 0;  // share of the rows held out, in [0, 1)
  bool redraw_split = false;    // by the seed and the step count, instead of the seed alone
  bool stratify = false;        // the split, where rows have classes
  std::optional<EarlyStopping> early_stopping;
  CheckpointPolicy checkpoints;
  // Whether to begin where the last run left its epoch; `whole_epochs`: that epoch is the first one
  // of `iterations`, which are then fewer by what is made of it.
  bool continue_epoch = false;
  bool whole_epochs = false;
  UnfinishedEpochPtr resumed = {};  // what that is; the session sets it. Null: a new epoch

  int64_t resumed_batches() const { return resumed != nullptr ? resumed->batches : 0; }
};

// Shared by the session that trains it and the calls that watch it. The public part is
// thread-safe; a Trainer does the work.
class Run {
 public:
  // `key`: of the request that started it. `resumes`: whether it goes on after a restart of the
  // server. `image`: what its log held when it was stored.
  Run(std::string name, int64_t number, const RunConfig& config, RequestKey key = {},
      bool resumes = false, RunLogImage image = {})
      : name_(std::move(name)),
        number_(number),
        config_(config),
        key_(std::move(key)),
        resumes_(resumes),
        log_(base::kKeptEvents, std::move(image)) {}

  const std::string& name() const { return name_; }  // models/{id}/runs/{n}
  int64_t number() const { return number_; }
  const RunConfig& config() const { return config_; }
  const RequestKey& key() const { return key_; }
  bool resumes() const { return resumes_; }
  // What it holds in memory at most, about, with one report an iteration.
  int64_t MemoryBytes() const {
    return int64_t{sizeof(Run)} +
           log_.MostBytes(std::min<int64_t>(config_.iterations, 1 << 20) + 2);
  }
  RunLog& log() { return log_; }
  const RunLog& log() const { return log_; }

  // Asks the run to end at the next step. The first reason counts.
  void RequestStop(StopReason reason) {
    int none = kNone;
    stop_.compare_exchange_strong(none, static_cast<int>(reason));
  }
  std::optional<StopReason> stop_requested() const {
    const int stop = stop_.load(std::memory_order_relaxed);
    if (stop == kNone) return std::nullopt;
    return static_cast<StopReason>(stop);
  }

  // A call that keeps the run going: when the last one is dropped, the run stops as cancelled. A
  // detached run is never dropped.
  // Whether it was started for such a call; set before anybody else knows the run.
  bool owned() const { return owned_; }
  void SetOwned(bool owned) { owned_ = owned; }
  void AddOwner() { owners_.fetch_add(1); }
  void DropOwner() {
    if (owners_.fetch_sub(1) == 1) RequestStop(StopReason::kCancelled);
  }

  // Calls `callback` with the summary, or with why there is none here: now if the run has ended or
  // was parked, else when it does.
  using FinishCallback = absl::AnyInvocable<void(const absl::StatusOr<RunSummary>&)>;
  void OnFinish(FinishCallback callback);

  bool finished() const {
    const base::MutexLock lock(&mu_);
    return summary_.has_value();
  }

  // Ends the log with `summary` and tells everyone. Called once, by the session.
  void Finish(const RunSummary& summary);

  // Says that this server does not go on with the run, which is not over: `reason` is what whoever
  // follows it is told. Called once, instead of Finish.
  void Park(const absl::Status& reason);
  // OK unless it was parked.
  absl::Status parked() const {
    const base::MutexLock lock(&mu_);
    return parked_;
  }

 private:
  static constexpr int kNone = -1;

  const std::string name_;
  const int64_t number_;
  const RunConfig config_;
  const RequestKey key_;
  const bool resumes_;
  bool owned_ = false;
  RunLog log_;
  std::atomic<int> stop_{kNone};
  std::atomic<int> owners_{0};
  mutable base::Mutex mu_;
  std::optional<RunSummary> summary_ ABSL_GUARDED_BY(mu_);
  absl::Status parked_ ABSL_GUARDED_BY(mu_);
  std::vector<FinishCallback> on_finish_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_H_
