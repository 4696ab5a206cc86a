// Executes a run in slices.
#ifndef BACKPROP_SERVER_SESSION_TRAINER_H_
#define BACKPROP_SERVER_SESSION_TRAINER_H_

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/parallel.h"
#include "server/engine/step.h"
#include "server/engine/workspace.h"
#include "server/records/metrics.h"
#include "server/records/progress_mark.h"
#include "server/records/run_config.h"
#include "server/records/run_events.h"
#include "server/records/unfinished_epoch.h"
#include "server/session/early_stopper.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"

namespace backprop::session {

// Numbers of rows of `data` for training and for validation.
struct RowCounts {
  int64_t training = 0;
  int64_t validation = 0;
};
RowCounts CountRows(const RunData& data, const records::RunConfig& config);
records::EpochPlan PlanOf(const RunData& data, const records::RunConfig& config);

// A state that the policy of a run requires to be stored.
struct DueCheckpoint {
  std::shared_ptr<const engine::State> state;
  int64_t iteration = 0;
  bool best = false;
  records::Metrics metrics;
  std::optional<records::Metrics> validation;
};

// Makes the steps of a run and writes its log. The results do not depend on the lengths of slices.
// Must be used by one thread at a time, except Share().
class Trainer {
 public:
  // `state` is the current state of the model. `parallel` helps with large steps and must outlive
  // the trainer. LogStart() must be called before the first slice.
  Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run, RunData data,
          std::shared_ptr<const engine::State> state, engine::Parallel* parallel);

  // Continues at the point where another trainer of the run, which started at step `start_step`,
  // was when `mark` was taken. `state` and the log of the run must be those of that moment.
  Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run, RunData data,
          std::shared_ptr<const engine::State> state, engine::Parallel* parallel,
          int64_t start_step, const records::ProgressMark& mark);

  // Writes the first event of the run. Calls its listeners, so no lock may be held that they need.
  void LogStart() const;

  // Works for about `length`, at least one step or one piece of a measurement. Returns the summary
  // when the run has ended.
  std::optional<records::RunSummary> Slice(absl::Duration length);

  // Between slices only. Nothing before the run has begun and after its last step.
  std::optional<records::ProgressMark> Mark() const;
  int64_t start_step() const { return start_step_; }

  // Steps made and rows trained since the run began.
  struct Made {
    int64_t steps = 0;
    int64_t rows = 0;
  };
  Made made() const { return {iteration_, samples_}; }

  // Between slices only: checkpoints that the policy of the run requires and that were not taken
  // yet. A slice ends when a periodic checkpoint is due. Only the latest best epoch is kept.
  std::optional<DueCheckpoint> TakePeriodic() { return std::exchange(periodic_, std::nullopt); }
  std::optional<DueCheckpoint> TakeBest() { return std::exchange(best_, std::nullopt); }
  bool has_best() const { return best_.has_value(); }
  // Whether all steps are made, and only the final measurements are left.
  bool ended() const { return ended_.has_value(); }
  // If ended(): the epoch that the run left unfinished, or null.
  records::UnfinishedEpochPtr Unfinished() const;

  // The state after the last step. Only for the thread that runs slices.
  const std::shared_ptr<const engine::State>& state() const { return state_; }

  // The same for any thread, also while the next step is computed. The state does not change.
  // Thread-safe.
  std::shared_ptr<const engine::State> Share() {
    const base::MutexLock lock(&state_mu_);
    shared_ = true;
    return state_;
  }

 private:
  using SteadyClock = std::chrono::steady_clock;
  enum class Phase { kPrepare, kStep, kValidate, kReport, kEnd };
  // A measurement in progress.
  struct Measurement {
    int64_t rows = 0;  // measured
    engine::LossResult sum;
  };

  Phase Prepare();
  Phase Step();
  // Batches made in the current epoch, including those of an earlier run; 0 at its end.
  int64_t MadeOfEpoch() const {
    return (iteration_ + resumed_batches_) % schedule_->iterations_per_epoch();
  }
  void EndEpoch(const engine::LossResult& measured);
  void KeepIfBest(double loss, const engine::LossResult& measured);
  void KeepIfDue();
  bool ReportIsDue() const;
  void Report();
  void BeginWindow();
  void End(records::StopReason reason);
  // Returns true when all rows are measured, false when the time of the slice is over.
  bool Measure(const engine::RowSet& rows, SteadyClock::time_point end, Measurement* measurement);
  bool MeasureAll(SteadyClock::time_point end);
  records::RunSummary Summary() const;
  // The reason to stop now, if any. A shutdown of the server does not end a run that resumes.
  std::optional<records::StopReason> StopRequested() const;
  // Changes the parts of a state other than its numbers; in a copy if the current state is shared.
  void ChangeState(absl::FunctionRef<void(engine::State*)> change);
  absl::Duration Elapsed() const { return absl::FromChrono(SteadyClock::now() - begin_); }

  const std::shared_ptr<const engine::Network> network_;
  engine::Parallel* const parallel_;
  const std::shared_ptr<Run> run_;
  const RunData data_;
  engine::RowSet training_;  // set in kPrepare, like validation_rows_
  engine::RowSet validation_rows_;
  std::optional<engine::BatchSchedule> schedule_;
  engine::Dataset measured_;  // rows to measure that are not adjacent in memory
  engine::Workspace workspace_;
  // Held by the working thread while it writes state_, and by other threads while they read it.
  base::Mutex state_mu_;
  std::shared_ptr<const engine::State> state_;
  bool shared_ = true;                    // state_ is also used by others; under state_mu_
  std::shared_ptr<engine::State> spare_;  // not shared; the next step writes here
  const int64_t start_step_;
  const int64_t resumed_batches_;  // of the first epoch, made by an earlier run
  const std::chrono::nanoseconds report_interval_ =
      absl::ToChronoNanoseconds(run_->config().report_interval);
  SteadyClock::time_point begin_ = SteadyClock::now();
  SteadyClock::time_point now_ = begin_;          // after the last phase
  SteadyClock::time_point last_report_ = begin_;  // or the start of this trainer
  // Rates count the work after the first step of this trainer, because that step may take long.
  struct Window {
    SteadyClock::time_point begin;
    int64_t iterations = 0;  // made before it
    int64_t samples = 0;
  };
  std::optional<Window> window_;  // unset before the first step
  bool warm_ = false;             // whether window_ begins after the first step
  Phase phase_ = Phase::kPrepare;
  Phase first_phase_ = Phase::kStep;  // after kPrepare
  int64_t iteration_ = 0;             // steps made
  int64_t samples_ = 0;               // rows trained
  engine::StepResult last_;           // of the last step
  engine::LossResult epoch_loss_;     // of the epoch's batches so far
  Measurement validating_;
  std::optional<records::Metrics> validation_;  // after the last complete epoch
  std::optional<EarlyStopper> stopper_;
  std::optional<DueCheckpoint> periodic_;
  std::optional<DueCheckpoint> best_;
  double kept_loss_ = std::numeric_limits<double>::infinity();  // of best_, or the last one taken
  int64_t kept_iteration_ = 0;                                  // 0: there is none
  std::optional<records::StopReason> ended_;
  std::string message_;
  Measurement final_training_;
  Measurement final_validation_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_TRAINER_H_
