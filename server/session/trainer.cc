#include "server/session/trainer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/schedule.h"
#include "server/engine/split.h"
#include "server/engine/standardize.h"
#include "server/exec/thread_priority.h"
#include "server/session/errors.h"

namespace backprop::session {

RowCounts CountRows(const RunData& data, const records::RunConfig& config) {
  if (data.validation != nullptr) return {data.training->rows, data.validation->rows};
  if (config.validation_split == 0) return {data.training->rows, 0};
  const int64_t held_out = engine::ValidationRows(data.training->rows, config.validation_split);
  return {data.training->rows - held_out, held_out};
}

records::EpochPlan PlanOf(const RunData& data, const records::RunConfig& config) {
  records::EpochPlan plan;
  plan.rows = data.training->rows;
  plan.batch_size = config.batch_size;
  plan.shuffle = config.shuffle;
  if (data.validation != nullptr || config.validation_split == 0) return plan;
  plan.validation_split = config.validation_split;
  plan.redraw_split = config.redraw_split;
  plan.stratify = config.stratify && !data.training->classes.empty();
  return plan;
}

Trainer::Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run,
                 RunData data, std::shared_ptr<const engine::State> state,
                 engine::Parallel* parallel)
    : network_(std::move(network)),
      parallel_(parallel),
      run_(std::move(run)),
      data_(std::move(data)),
      state_(std::move(state)),
      start_step_(state_->step),
      resumed_batches_(run_->config().resumed_batches()) {
  const records::RunConfig& config = run_->config();
  if (config.early_stopping.has_value()) stopper_.emplace(*config.early_stopping);
  if (config.resumed != nullptr) epoch_loss_ = config.resumed->loss;
}

void Trainer::LogStart() const {
  const records::RunConfig& config = run_->config();
  const auto [training, validation] = CountRows(data_, config);
  run_->log().Append(records::RunStarted{config.iterations,
                                         engine::BatchesPerEpoch(training, config.batch_size),
                                         training, start_step_, validation});
}

Trainer::Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run,
                 RunData data, std::shared_ptr<const engine::State> state,
                 engine::Parallel* parallel, int64_t start_step, const records::ProgressMark& mark)
    : network_(std::move(network)),
      parallel_(parallel),
      run_(std::move(run)),
      data_(std::move(data)),
      state_(std::move(state)),
      start_step_(start_step),
      resumed_batches_(run_->config().resumed_batches()),
      begin_(SteadyClock::now() - absl::ToChronoNanoseconds(mark.elapsed)),
      first_phase_(mark.next == records::ProgressMark::Next::kStep       ? Phase::kStep
                   : mark.next == records::ProgressMark::Next::kValidate ? Phase::kValidate
                                                                         : Phase::kReport),
      iteration_(mark.iteration),
      samples_(mark.samples),
      last_(mark.last),
      epoch_loss_(mark.epoch_loss),
      validation_(mark.validation) {
  const records::RunConfig& config = run_->config();
  kept_iteration_ = mark.kept_iteration;
  if (kept_iteration_ > 0) kept_loss_ = mark.kept_loss;
  if (config.early_stopping.has_value()) {
    stopper_.emplace(*config.early_stopping, mark.best_loss, mark.best_iteration, mark.bad_epochs,
                     mark.best_state);
  }
}

std::optional<records::ProgressMark> Trainer::Mark() const {
  records::ProgressMark mark;
  switch (phase_) {
    case Phase::kPrepare:
    case Phase::kEnd:
      return std::nullopt;
    case Phase::kStep:
      mark.next = records::ProgressMark::Next::kStep;
      break;
    case Phase::kValidate:  // a partial measurement is repeated
      mark.next = records::ProgressMark::Next::kValidate;
      break;
    case Phase::kReport:
      mark.next = records::ProgressMark::Next::kReport;
      break;
  }
  mark.iteration = iteration_;
  mark.samples = samples_;
  mark.last = last_;
  mark.epoch_loss = epoch_loss_;
  mark.validation = validation_;
  mark.elapsed = Elapsed();
  mark.kept_loss = kept_loss_;
  mark.kept_iteration = kept_iteration_;
  if (stopper_.has_value()) {
    mark.best_loss = stopper_->best_iteration() > 0 ? stopper_->best_loss()
                                                    : std::numeric_limits<double>::infinity();
    mark.best_iteration = stopper_->best_iteration();
    mark.bad_epochs = stopper_->bad_epochs();
    mark.best_state = stopper_->best_state();
  }
  return mark;
}

// Work that needs the rows: the split, the standardisation, the order of batches.
Trainer::Phase Trainer::Prepare() {
  const records::RunConfig& config = run_->config();
  const uint64_t seed = network_->spec().seed;
  if (data_.validation == nullptr && config.validation_split > 0) {
    const uint64_t index = config.redraw_split ? static_cast<uint64_t>(start_step_) : 0;
    engine::Split split = engine::SplitForValidation(
        data_.training, {config.validation_split, seed, index, config.stratify});
    training_ = std::move(split.training);
    validation_rows_ = std::move(split.validation);
  } else {
    training_ = engine::RowSet(data_.training);
    if (data_.validation != nullptr) validation_rows_ = engine::RowSet(data_.validation);
  }
  if (engine::AwaitsFit(*network_, *state_)) {
    auto fitted = engine::FitStandardization(training_);
    if (fitted == nullptr) {
      message_ =
          "the mean or standard deviation of the inputs was not finite; the model is unchanged";
      End(records::StopReason::kDiverged);
      return Phase::kEnd;
    }
    ChangeState([&](engine::State* state) { state->standardization = std::move(fitted); });
  }
  schedule_.emplace(
      engine::BatchPlan{config.batch_size, config.shuffle, seed, start_step_ - resumed_batches_},
      training_);
  return first_phase_;
}

std::optional<records::RunSummary> Trainer::Slice(absl::Duration length) {
  now_ = SteadyClock::now();
  const auto end = now_ + absl::ToChronoNanoseconds(length);
  while (phase_ != Phase::kEnd) {
    const bool reported = phase_ == Phase::kReport;
    switch (phase_) {
      case Phase::kPrepare:
        phase_ = Prepare();
        break;
      case Phase::kStep:
        phase_ = Step();
        break;
      case Phase::kValidate:
        if (const auto stop = StopRequested()) {
          End(*stop);
          phase_ = Phase::kEnd;
          break;
        }
        if (!Measure(validation_rows_, end, &validating_)) return std::nullopt;
        validation_ = records::MetricsOf(*network_, validating_.sum, validating_.rows);
        EndEpoch(std::exchange(validating_, {}).sum);
        phase_ = Phase::kReport;
        break;
      case Phase::kReport:
        Report();
        BeginWindow();
        KeepIfDue();
        phase_ = Phase::kStep;
        if (periodic_.has_value()) return std::nullopt;
        break;
      case Phase::kEnd:
        break;
    }
    if (phase_ == Phase::kEnd) break;
    // The clock is read once an iteration: two reads cost 2 % of a small network's speed.
    if (phase_ == Phase::kReport) {
      now_ = SteadyClock::now();
      continue;
    }
    if (!reported) now_ = SteadyClock::now();
    if (now_ >= end) return std::nullopt;
    exec::LetOthersRun(now_);
  }
  if (!MeasureAll(end)) return std::nullopt;
  return Summary();
}

std::optional<records::StopReason> Trainer::StopRequested() const {
  const auto reason = run_->stop_requested();
  if (reason == records::StopReason::kServerShutdown && run_->resumes()) return std::nullopt;
  return reason;
}

// Ends the run or makes a step. Returns the next phase.
Trainer::Phase Trainer::Step() {
  const records::RunConfig& config = run_->config();
  std::optional<records::StopReason> reason = StopRequested();
  if (!reason.has_value() && stopper_.has_value() && stopper_->should_stop()) {
    reason = records::StopReason::kEarlyStopped;
  }
  if (!reason.has_value() && iteration_ == config.iterations)
    reason = records::StopReason::kCompleted;
  if (reason.has_value()) {
    End(*reason);
    return Phase::kEnd;
  }
  if (spare_ == nullptr) spare_ = std::make_shared<engine::State>(*network_);
  if (!window_.has_value()) window_ = Window{now_, iteration_, samples_};
  const engine::BatchView batch = schedule_->Batch(iteration_ + resumed_batches_);
  last_ = engine::TrainStep(*network_, *state_, batch, &workspace_, spare_.get(), parallel_);
  if (last_.not_finite != engine::NotFinite::kNothing) {
    message_ =
        absl::StrCat(NameOf(last_.not_finite), " was not finite at iteration ", iteration_ + 1,
                     "; the model keeps the parameters of step ", state_->step);
    End(records::StopReason::kDiverged);
    return Phase::kEnd;
  }
  // The next step writes into the old state, unless that is shared. A shared one is released
  // without the lock, which readers need.
  std::shared_ptr<const engine::State> old;
  {
    const base::MutexLock lock(&state_mu_);
    old = std::exchange(state_, std::move(spare_));
    if (!shared_) spare_ = std::const_pointer_cast<engine::State>(old);
    shared_ = false;
  }
  ++iteration_;
  samples_ += batch.rows;
  epoch_loss_ += last_.loss;
  if (MadeOfEpoch() == 0) {
    if (validation_rows_.rows() > 0) return Phase::kValidate;
    EndEpoch(epoch_loss_);
  }
  return Phase::kReport;
}

// `measured` is what the schedule and early stopping use: rows of weight 0 are no improvement.
void Trainer::EndEpoch(const engine::LossResult& measured) {
  const double loss =
      measured.weight > 0 ? measured.mean() : std::numeric_limits<double>::quiet_NaN();
  const engine::OptimizerSpec& optimizer = network_->spec().optimizer;
  if (optimizer.schedule.kind == engine::ScheduleKind::kReduceOnPlateau) {
    ChangeState([&](engine::State* state) {
      state->plateau =
          engine::AfterMeasurement(optimizer, state->optimizer_step, state->plateau, loss);
    });
  }
  if (run_->config().checkpoints.keep_best) KeepIfBest(loss, measured);
  epoch_loss_ = {};  // `measured` may refer to it
  if (!stopper_.has_value()) return;
  const base::MutexLock lock(&state_mu_);
  shared_ = stopper_->EndEpoch(loss, iteration_, state_) || shared_;
}

// NaN is never better.
void Trainer::KeepIfBest(double loss, const engine::LossResult& measured) {
  if (!(loss < kept_loss_)) return;
  kept_loss_ = loss;
  kept_iteration_ = iteration_;
  const int64_t rows = validation_rows_.rows() > 0 ? validation_rows_.rows() : training_.rows();
  best_ = DueCheckpoint{Share(), iteration_, true, records::MetricsOf(*network_, measured, rows),
                        validation_};
}

void Trainer::KeepIfDue() {
  const int64_t every = run_->config().checkpoints.every_iterations;
  if (every == 0 || iteration_ % every != 0) return;
  periodic_ = DueCheckpoint{Share(), iteration_, false,
                            records::MetricsOf(*network_, last_.loss, last_.rows), validation_};
}

void Trainer::ChangeState(absl::FunctionRef<void(engine::State*)> change) {
  const base::MutexLock lock(&state_mu_);
  if (shared_) {
    state_ = engine::Clone(*state_);
    shared_ = false;
  }
  change(std::const_pointer_cast<engine::State>(state_).get());
}

bool Trainer::ReportIsDue() const {
  const records::RunConfig& config = run_->config();
  if (iteration_ == 1 || iteration_ % config.report_every == 0) return true;
  if (iteration_ == config.iterations) return true;
  if (stopper_.has_value() && stopper_->should_stop()) return true;
  return now_ - last_report_ >= report_interval_;
}

void Trainer::Report() {
  if (!ReportIsDue()) return;
  const records::RunConfig& config = run_->config();
  last_report_ = now_;
  // A trainer that continues at the report of another trainer's step has made no step itself.
  const Window window = window_.value_or(Window{begin_, 0, 0});
  const double seconds = std::max(std::chrono::duration<double>(now_ - window.begin).count(), 1e-9);
  const auto made = static_cast<double>(iteration_ - window.iterations);
  records::Progress progress;
  progress.iteration = iteration_;
  progress.total_iterations = config.iterations;
  progress.epoch = (iteration_ + resumed_batches_ - 1) / schedule_->iterations_per_epoch() + 1;
  progress.step = state_->step;
  progress.metrics = records::MetricsOf(*network_, last_.loss, last_.rows);
  progress.learning_rate = last_.learning_rate;
  progress.gradient_norm = last_.gradient_norm;
  progress.samples_per_second = static_cast<double>(samples_ - window.samples) / seconds;
  progress.eta =
      absl::Seconds(seconds / made * static_cast<double>(config.iterations - iteration_));
  progress.validation = validation_;
  run_->log().Append(progress);
}

// Acts once, after the first step, whose allocations and cold caches must not affect rates.
void Trainer::BeginWindow() {
  if (warm_ || !window_.has_value()) return;
  window_ = Window{now_, iteration_, samples_};
  warm_ = true;
}

records::UnfinishedEpochPtr Trainer::Unfinished() const {
  if (!schedule_.has_value()) return run_->config().resumed;  // the run did not begin
  if (MadeOfEpoch() == 0) return nullptr;
  return std::make_shared<records::UnfinishedEpoch>(records::UnfinishedEpoch{
      MadeOfEpoch(), epoch_loss_, state_->step, PlanOf(data_, run_->config())});
}

void Trainer::End(records::StopReason reason) {
  ended_ = reason;
  if (!stopper_.has_value() || stopper_->best_state() == nullptr ||
      stopper_->best_iteration() == iteration_) {
    return;
  }
  const int64_t step = state_->step;  // is not reset, because these steps were made
  const std::shared_ptr<engine::State> best = engine::Clone(*stopper_->best_state());
  best->step = step;
  const base::MutexLock lock(&state_mu_);
  state_ = best;
  shared_ = false;
}

bool Trainer::Measure(const engine::RowSet& rows, SteadyClock::time_point end,
                      Measurement* measurement) {
  const int64_t at_once = engine::Workspace::RowsAtOnce(*network_);
  while (measurement->rows < rows.rows()) {
    const int64_t count = std::min(at_once, rows.rows() - measurement->rows);
    measurement->sum +=
        engine::Evaluate(*network_, *state_, rows.View(measurement->rows, count, &measured_),
                         &workspace_, parallel_);
    measurement->rows += count;
    const auto now = SteadyClock::now();
    if (measurement->rows < rows.rows() && now >= end) return false;
    exec::LetOthersRun(now);
  }
  return true;
}

// Makes the final measurements, unless they matter to no caller (the model was deleted) or would
// delay a shutdown.
bool Trainer::MeasureAll(SteadyClock::time_point end) {
  if (ended_ == records::StopReason::kModelDeleted ||
      ended_ == records::StopReason::kServerShutdown)
    return true;
  if (!schedule_.has_value()) return true;  // the run did not begin
  if (!Measure(training_, end, &final_training_)) return false;
  return validation_rows_.rows() == 0 || Measure(validation_rows_, end, &final_validation_);
}

records::RunSummary Trainer::Summary() const {
  records::RunSummary summary;
  summary.stop_reason = *ended_;
  summary.iterations = iteration_;
  summary.step = state_->step;
  summary.elapsed = Elapsed();
  summary.message = message_;
  if (final_training_.rows > 0) {
    summary.metrics = records::MetricsOf(*network_, final_training_.sum, final_training_.rows);
  }
  if (final_validation_.rows > 0) {
    summary.validation =
        records::MetricsOf(*network_, final_validation_.sum, final_validation_.rows);
  }
  if (stopper_.has_value()) {
    summary.best_iteration = stopper_->best_iteration();
    summary.best_loss = stopper_->best_loss();
    summary.restored_best = stopper_->best_state() != nullptr;
  }
  return summary;
}

}  // namespace backprop::session
