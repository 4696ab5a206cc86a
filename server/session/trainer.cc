#include "server/session/trainer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/loss.h"

namespace backprop::session {
namespace {

engine::BatchPlan PlanOf(const engine::Network& network, const RunConfig& config,
                         int64_t start_step) {
  return {config.batch_size, config.shuffle, network.spec().seed, start_step};
}

const char* NameOf(engine::NotFinite what) {
  switch (what) {
    case engine::NotFinite::kLoss:
      return "the loss";
    case engine::NotFinite::kGradient:
      return "the gradient";
    case engine::NotFinite::kNextState:
      return "the next parameters";
    case engine::NotFinite::kNothing:
      break;
  }
  return "nothing";
}

Metrics MetricsOf(const engine::Network& network, double loss_sum, int64_t correct, int64_t rows) {
  Metrics metrics;
  metrics.rows = rows;
  metrics.loss = loss_sum / static_cast<double>(rows);
  if (engine::HasAccuracy(network.spec().loss)) {
    metrics.accuracy = static_cast<double>(correct) / static_cast<double>(rows);
  }
  return metrics;
}

}  // namespace

Trainer::Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run,
                 std::shared_ptr<const engine::Dataset> data,
                 std::shared_ptr<const engine::State> state)
    : network_(std::move(network)),
      run_(std::move(run)),
      data_(std::move(data)),
      schedule_(PlanOf(*network_, run_->config(), state->step), *data_),
      state_(std::move(state)),
      start_step_(state_->step) {
  run_->log().Append(RunStarted{run_->config().iterations, schedule_.iterations_per_epoch(),
                                data_->rows, start_step_});
}

std::optional<RunSummary> Trainer::Slice(absl::Duration length,
                                         absl::FunctionRef<bool()> at_step_boundary) {
  const auto end = SteadyClock::now() + absl::ToChronoNanoseconds(length);
  while (!ended_.has_value()) {
    shared_ = at_step_boundary() || shared_;
    if (const auto stop = run_->stop_requested()) {
      ended_ = stop;
    } else if (iteration_ == run_->config().iterations) {
      ended_ = StopReason::kCompleted;
    } else if (!Step()) {
      ended_ = StopReason::kDiverged;
    } else if (SteadyClock::now() >= end) {
      return std::nullopt;
    }
  }
  if (!Measure(end)) return std::nullopt;
  return Summary(*ended_);
}

bool Trainer::Step() {
  if (spare_ == nullptr) spare_ = std::make_shared<engine::State>(*network_);
  const engine::BatchView batch = schedule_.Batch(iteration_);
  const engine::StepResult result =
      engine::TrainStep(*network_, *state_, batch, &workspace_, spare_.get());
  if (result.not_finite != engine::NotFinite::kNothing) {
    message_ =
        absl::StrCat(NameOf(result.not_finite), " was not finite at iteration ", iteration_ + 1,
                     "; the model keeps the parameters of step ", state_->step);
    return false;
  }
  // The old state becomes the next step's target, unless somebody reads it.
  std::shared_ptr<const engine::State> old = std::exchange(state_, std::move(spare_));
  if (!shared_) spare_ = std::const_pointer_cast<engine::State>(old);
  shared_ = false;
  ++iteration_;
  samples_ += batch.rows;
  const RunConfig& config = run_->config();
  if (iteration_ == 1 || iteration_ % config.report_every == 0 || iteration_ == config.iterations) {
    Report(result);
  }
  return true;
}

void Trainer::Report(const engine::StepResult& result) {
  const double seconds = std::max(absl::ToDoubleSeconds(Elapsed()), 1e-9);
  Progress progress;
  progress.iteration = iteration_;
  progress.total_iterations = run_->config().iterations;
  progress.epoch = (iteration_ - 1) / schedule_.iterations_per_epoch() + 1;
  progress.step = state_->step;
  progress.metrics = MetricsOf(*network_, result.loss * static_cast<double>(result.rows),
                               result.correct, result.rows);
  progress.learning_rate = network_->spec().optimizer.learning_rate;
  progress.gradient_norm = result.gradient_norm;
  progress.samples_per_second = static_cast<double>(samples_) / seconds;
  progress.eta =
      absl::Seconds(seconds * static_cast<double>(progress.total_iterations - iteration_) /
                    static_cast<double>(iteration_));
  run_->log().Append(progress);
}

bool Trainer::Measure(SteadyClock::time_point end) {
  const int64_t at_once = engine::Workspace::RowsAtOnce(*network_);
  while (measured_rows_ < data_->rows) {
    // Nobody is left to whom it matters, or who would wait.
    if (*ended_ == StopReason::kModelDeleted || *ended_ == StopReason::kServerShutdown) return true;
    const int64_t count = std::min(at_once, data_->rows - measured_rows_);
    const auto result =
        engine::Evaluate(*network_, *state_, data_->View(measured_rows_, count), &workspace_);
    loss_sum_ += result.loss_sum;
    correct_ += result.correct;
    measured_rows_ += count;
    if (measured_rows_ < data_->rows && SteadyClock::now() >= end) return false;
  }
  return true;
}

RunSummary Trainer::Summary(StopReason reason) {
  RunSummary summary;
  summary.stop_reason = reason;
  summary.iterations = iteration_;
  summary.step = state_->step;
  summary.elapsed = Elapsed();
  summary.message = message_;
  if (measured_rows_ == data_->rows) {
    summary.metrics = MetricsOf(*network_, loss_sum_, correct_, data_->rows);
  }
  return summary;
}

}  // namespace backprop::session
