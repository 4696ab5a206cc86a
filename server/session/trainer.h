// The work of a run, a slice at a time.
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
#include "server/session/early_stopper.h"
#include "server/session/run.h"

namespace backprop::session {

// The rows of a run. Without `validation` a share may be held out of `training`.
struct RunData {
  std::shared_ptr<const engine::Dataset> training;
  std::shared_ptr<const engine::Dataset> validation;  // or null
};

// Rows of `data` that a run trains on and validates on.
struct RowCounts {
  int64_t training = 0;
  int64_t validation = 0;
};
RowCounts CountRows(const RunData& data, const RunConfig& config);
EpochPlan PlanOf(const RunData& data, const RunConfig& config);

// How far a trainer has come: with its state, enough for another one to go on.
struct TrainerMark {
  enum class Next { kStep = 1, kValidate = 2, kReport = 3 };
  Next next = Next::kStep;
  int64_t iteration = 0;
  int64_t samples = 0;
  engine::StepResult last;
  engine::LossResult epoch_loss;
  std::optional<Metrics> validation;
  absl::Duration elapsed;
  // Of early stopping.
  double best_loss = 0;
  int64_t best_iteration = 0;
  int64_t bad_epochs = 0;
  std::shared_ptr<const engine::State> best_state;
  // Of the checkpoint that keeps the best epoch.
  double kept_loss = 0;
  int64_t kept_iteration = 0;
};

// Makes the steps of a run and writes its log. What a slice computes depends on where it starts,
// never on how long it is. Used by one thread at a time, but for Share().
class Trainer {
 public:
  // `state` is the model's current one. Does no work yet. `parallel` helps with large steps; it
  // must outlive the trainer.
  Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run, RunData data,
          std::shared_ptr<const engine::State> state, engine::Parallel* parallel);

  // Goes on where another trainer of the run, which began at `start_step`, was when `mark` was
  // taken; `state` is the one it had then. The run's log is as it was, too.
  Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run, RunData data,
          std::shared_ptr<const engine::State> state, engine::Parallel* parallel,
          int64_t start_step, const TrainerMark& mark);

  // Works for about `length`, at least one step or one piece of a measurement. Returns the summary
  // when the run has ended.
  std::optional<RunSummary> Slice(absl::Duration length);

  // Between slices: where it is. Nothing before it has begun and after its last step.
  std::optional<TrainerMark> Mark() const;
  int64_t start_step() const { return start_step_; }

  // Between slices: what the run's policy wants to be kept and was not taken yet. A slice ends
  // where a periodic checkpoint is due; of the best epochs the latest counts.
  std::optional<DueCheckpoint> TakePeriodic() { return std::exchange(periodic_, std::nullopt); }
  std::optional<DueCheckpoint> TakeBest() { return std::exchange(best_, std::nullopt); }
  bool has_best() const { return best_.has_value(); }
  // Whether all steps are made: only the last measurements are left.
  bool ended() const { return ended_.has_value(); }
  // Then: the epoch that it left unfinished, or null.
  UnfinishedEpochPtr Unfinished() const;

  // The state after the last step, for the thread that works.
  const std::shared_ptr<const engine::State>& state() const { return state_; }

  // The same for anybody, at any time, also while the next step is computed: it stays as it is.
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
  // Batches of the current epoch that are made, those of an earlier run included; 0 at its end.
  int64_t MadeOfEpoch() const {
    return (iteration_ + resumed_batches_) % schedule_->iterations_per_epoch();
  }
  void EndEpoch(const engine::LossResult& measured);
  void KeepIfBest(double loss, const engine::LossResult& measured);
  void KeepIfDue();
  bool ReportIsDue() const;
  void Report();
  void BeginWindow();
  void End(StopReason reason);
  // True when all rows are measured; else the slice is over.
  bool Measure(const engine::RowSet& rows, SteadyClock::time_point end, Measurement* measurement);
  bool MeasureAll(SteadyClock::time_point end);
  RunSummary Summary() const;
  // Why to end now, if so. A run that goes on after a restart is not ended by the server's end.
  std::optional<StopReason> StopRequested() const;
  // Changes what is not a state's numbers, in a copy if somebody else reads the current one.
  void ChangeState(absl::FunctionRef<void(engine::State*)> change);
  absl::Duration Elapsed() const { return absl::FromChrono(SteadyClock::now() - begin_); }

  const std::shared_ptr<const engine::Network> network_;
  engine::Parallel* const parallel_;
  const std::shared_ptr<Run> run_;
  const RunData data_;
  engine::RowSet training_;  // set, as is the next one, in kPrepare
  engine::RowSet validation_rows_;
  std::optional<engine::BatchSchedule> schedule_;
  engine::Dataset measured_;  // rows to measure that do not lie side by side
  engine::Workspace workspace_;
  // Held by the working thread while it writes state_, and by others while they read it.
  base::Mutex state_mu_;
  std::shared_ptr<const engine::State> state_;
  bool shared_ = true;                    // somebody else reads state_; under state_mu_
  std::shared_ptr<engine::State> spare_;  // nobody reads; the next step writes here
  const int64_t start_step_;
  const int64_t resumed_batches_;  // of the first epoch, by an earlier run
  SteadyClock::time_point begin_ = SteadyClock::now();
  SteadyClock::time_point now_ = begin_;          // after the last phase
  SteadyClock::time_point last_report_ = begin_;  // or when this trainer began
  // Rates are of what was made since its first step, which may take long, had ended.
  struct Window {
    SteadyClock::time_point begin;
    int64_t iterations = 0;  // made before
    int64_t samples = 0;
  };
  std::optional<Window> window_;  // nothing before the first step
  bool warm_ = false;             // whether the window is behind it
  Phase phase_ = Phase::kPrepare;
  Phase first_phase_ = Phase::kStep;  // after kPrepare
  int64_t iteration_ = 0;             // steps made
  int64_t samples_ = 0;               // rows trained
  engine::StepResult last_;           // of the last step
  engine::LossResult epoch_loss_;     // of the epoch's batches so far
  Measurement validating_;
  std::optional<Metrics> validation_;  // after the last complete epoch
  std::optional<EarlyStopper> stopper_;
  std::optional<DueCheckpoint> periodic_;
  std::optional<DueCheckpoint> best_;
  double kept_loss_ = std::numeric_limits<double>::infinity();  // of best_, or the one taken last
  int64_t kept_iteration_ = 0;                                  // 0: there was none
  std::optional<StopReason> ended_;
  std::string message_;
  Measurement final_training_;
  Measurement final_validation_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_TRAINER_H_
