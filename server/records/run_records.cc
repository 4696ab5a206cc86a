#include "server/records/run_records.h"

#include <memory>
#include <utility>
#include <variant>

#include "absl/time/time.h"
#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/records.pb.h"

namespace backprop::records {
namespace {

using records::Decode;
using records::Encode;

void Encode(const UnfinishedEpoch& epoch, v1::Epoch* message) {
  message->set_batches(epoch.batches);
  Encode(epoch.loss, message->mutable_loss());
  message->set_step(epoch.step);
  message->set_rows(epoch.plan.rows);
  message->set_batch_size(epoch.plan.batch_size);
  message->set_shuffle(epoch.plan.shuffle);
  message->set_validation_split(epoch.plan.validation_split);
  message->set_redraw_split(epoch.plan.redraw_split);
  message->set_stratify(epoch.plan.stratify);
}

UnfinishedEpochPtr Decode(const v1::Epoch& message) {
  return std::make_shared<UnfinishedEpoch>(
      UnfinishedEpoch{message.batches(),
                      Decode(message.loss()),
                      message.step(),
                      {message.rows(), message.batch_size(), message.shuffle(),
                       message.validation_split(), message.redraw_split(), message.stratify()}});
}

void Encode(const RunConfig& config, v1::RunConfig* message) {
  message->set_iterations(config.iterations);
  message->set_batch_size(config.batch_size);
  message->set_shuffle(config.shuffle);
  message->set_report_every(config.report_every);
  message->set_validation_split(config.validation_split);
  message->set_checkpoint_every(config.checkpoints.every_iterations);
  message->set_keep_last(config.checkpoints.keep_last);
  message->set_keep_best(config.checkpoints.keep_best);
  if (config.report_interval != absl::InfiniteDuration()) {
    message->set_report_interval_nanos(absl::ToInt64Nanoseconds(config.report_interval));
  }
  message->set_split_by_seed(!config.redraw_split);
  message->set_stratify(config.stratify);
  if (config.resumed != nullptr) Encode(*config.resumed, message->mutable_resumed());
  if (!config.early_stopping.has_value()) return;
  message->set_early_stopping(true);
  message->set_patience(config.early_stopping->patience);
  message->set_min_delta(config.early_stopping->min_delta);
  message->set_restore_best(config.early_stopping->restore_best);
}

RunConfig Decode(const v1::RunConfig& message) {
  RunConfig config;
  config.iterations = message.iterations();
  config.batch_size = message.batch_size();
  config.shuffle = message.shuffle();
  config.report_every = message.report_every();
  config.validation_split = message.validation_split();
  config.checkpoints = {message.checkpoint_every(), message.keep_last(), message.keep_best()};
  if (message.report_interval_nanos() > 0) {
    config.report_interval = absl::Nanoseconds(message.report_interval_nanos());
  }
  config.redraw_split = !message.split_by_seed();
  config.stratify = message.stratify();
  if (message.has_resumed()) config.resumed = Decode(message.resumed());
  if (message.early_stopping()) {
    config.early_stopping =
        EarlyStopping{message.patience(), message.min_delta(), message.restore_best()};
  }
  return config;
}

void Encode(const RunStarted& started, v1::Event* event) {
  v1::Event::Started* message = event->mutable_started();
  message->set_total_iterations(started.total_iterations);
  message->set_iterations_per_epoch(started.iterations_per_epoch);
  message->set_rows(started.rows);
  message->set_start_step(started.start_step);
  message->set_validation_rows(started.validation_rows);
}

void Encode(const Progress& progress, v1::Event* event) {
  v1::Event::Progress* message = event->mutable_progress();
  message->set_iteration(progress.iteration);
  message->set_total_iterations(progress.total_iterations);
  message->set_epoch(progress.epoch);
  message->set_step(progress.step);
  Encode(progress.metrics, message->mutable_metrics());
  message->set_learning_rate(progress.learning_rate);
  message->set_gradient_norm(progress.gradient_norm);
  message->set_samples_per_second(progress.samples_per_second);
  message->set_eta_nanos(absl::ToInt64Nanoseconds(progress.eta));
  if (progress.validation.has_value()) Encode(*progress.validation, message->mutable_validation());
}

void Encode(const RunSummary& summary, v1::Event* event) {
  v1::Event::Summary* message = event->mutable_summary();
  message->set_stop_reason(static_cast<uint32_t>(summary.stop_reason));
  message->set_iterations(summary.iterations);
  message->set_step(summary.step);
  if (summary.metrics.has_value()) Encode(*summary.metrics, message->mutable_metrics());
  message->set_elapsed_nanos(absl::ToInt64Nanoseconds(summary.elapsed));
  message->set_message(summary.message);
  if (summary.validation.has_value()) Encode(*summary.validation, message->mutable_validation());
  message->set_best_iteration(summary.best_iteration);
  message->set_best_loss(summary.best_loss);
  message->set_restored_best(summary.restored_best);
}

RunEventBody Decode(const v1::Event& event) {
  if (event.has_started()) {
    const auto& m = event.started();
    return RunStarted{m.total_iterations(), m.iterations_per_epoch(), m.rows(), m.start_step(),
                      m.validation_rows()};
  }
  if (event.has_progress()) {
    const auto& m = event.progress();
    Progress progress;
    progress.iteration = m.iteration();
    progress.total_iterations = m.total_iterations();
    progress.epoch = m.epoch();
    progress.step = m.step();
    progress.metrics = Decode(m.metrics());
    progress.learning_rate = m.learning_rate();
    progress.gradient_norm = m.gradient_norm();
    progress.samples_per_second = m.samples_per_second();
    progress.eta = absl::Nanoseconds(m.eta_nanos());
    if (m.has_validation()) progress.validation = Decode(m.validation());
    return progress;
  }
  const auto& m = event.summary();
  RunSummary summary;
  summary.stop_reason = static_cast<StopReason>(m.stop_reason());
  summary.iterations = m.iterations();
  summary.step = m.step();
  if (m.has_metrics()) summary.metrics = Decode(m.metrics());
  summary.elapsed = absl::Nanoseconds(m.elapsed_nanos());
  summary.message = m.message();
  if (m.has_validation()) summary.validation = Decode(m.validation());
  summary.best_iteration = m.best_iteration();
  summary.best_loss = m.best_loss();
  summary.restored_best = m.restored_best();
  return summary;
}

void Encode(const RunLogImage& log, v1::RunLog* message) {
  const auto add = [](const RunEventBody& body, v1::Event* event) {
    std::visit([&](const auto& kind) { Encode(kind, event); }, body);
  };
  for (const RunEventBody& body : log.first) add(body, message->add_first());
  for (const RunEventBody& body : log.newest) add(body, message->add_newest());
  message->set_count(log.count);
}

RunLogImage Decode(const v1::RunLog& message) {
  RunLogImage log;
  for (const v1::Event& event : message.first()) log.first.push_back(Decode(event));
  for (const v1::Event& event : message.newest()) log.newest.push_back(Decode(event));
  log.count = message.count();
  return log;
}

}  // namespace

std::string EncodeRun(const StoredRun& run) {
  v1::Run message;
  message.set_number(run.number);
  Encode(run.config, message.mutable_config());
  Encode(run.key, message.mutable_key());
  message.set_resumes(run.resumes);
  message.set_start_step(run.start_step);
  message.set_training_chunks(run.training_chunks);
  message.set_validation_chunks(run.validation_chunks);
  message.set_training_dataset(run.training_dataset);
  message.set_validation_dataset(run.validation_dataset);
  message.set_model(run.model);
  return Seal(message);
}

absl::StatusOr<StoredRun> DecodeRun(absl::string_view value, absl::string_view model) {
  v1::Run message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  StoredRun run;
  run.number = message.number();
  run.config = Decode(message.config());
  run.key = Decode(message.key());
  run.resumes = message.resumes();
  run.start_step = message.start_step();
  run.training_chunks = message.training_chunks();
  run.validation_chunks = message.validation_chunks();
  run.training_dataset = message.training_dataset();
  run.validation_dataset = message.validation_dataset();
  run.model = message.model();
  return run;
}

std::string EncodeMark(const ProgressMark& mark, const RunLogImage& log) {
  v1::Mark message;
  message.set_phase(static_cast<uint32_t>(mark.next));
  message.set_iteration(mark.iteration);
  message.set_samples(mark.samples);
  Encode(mark.last, message.mutable_last());
  Encode(mark.epoch_loss, message.mutable_epoch_loss());
  if (mark.validation.has_value()) Encode(*mark.validation, message.mutable_validation());
  message.set_elapsed_nanos(absl::ToInt64Nanoseconds(mark.elapsed));
  message.set_best_loss(mark.best_loss);
  message.set_best_iteration(mark.best_iteration);
  message.set_bad_epochs(mark.bad_epochs);
  message.set_kept_loss(mark.kept_loss);
  message.set_kept_iteration(mark.kept_iteration);
  Encode(log, message.mutable_log());
  return Seal(message);
}

absl::StatusOr<StoredMark> DecodeMark(absl::string_view value, absl::string_view model) {
  v1::Mark message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  if (message.phase() < 1 || message.phase() > 3) {
    return Damaged(model, "a progress mark has an unknown kind");
  }
  StoredMark stored;
  stored.mark.next = static_cast<ProgressMark::Next>(message.phase());
  stored.mark.iteration = message.iteration();
  stored.mark.samples = message.samples();
  stored.mark.last = Decode(message.last());
  stored.mark.epoch_loss = Decode(message.epoch_loss());
  if (message.has_validation()) stored.mark.validation = Decode(message.validation());
  stored.mark.elapsed = absl::Nanoseconds(message.elapsed_nanos());
  stored.mark.best_loss = message.best_loss();
  stored.mark.best_iteration = message.best_iteration();
  stored.mark.bad_epochs = message.bad_epochs();
  stored.mark.kept_loss = message.kept_loss();
  stored.mark.kept_iteration = message.kept_iteration();
  stored.log = Decode(message.log());
  return stored;
}

std::string EncodeFinishedRun(FinishedRun run) {
  run.log.newest.emplace_back(std::move(run.summary));
  ++run.log.count;
  v1::FinishedRun message;
  message.set_number(run.number);
  Encode(run.config, message.mutable_config());
  Encode(run.log, message.mutable_log());
  if (run.unfinished != nullptr) Encode(*run.unfinished, message.mutable_unfinished());
  return Seal(message);
}

absl::StatusOr<FinishedRun> DecodeFinishedRun(absl::string_view value, absl::string_view model) {
  v1::FinishedRun message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  FinishedRun run;
  run.number = message.number();
  run.config = Decode(message.config());
  run.log = Decode(message.log());
  if (run.log.newest.empty() || !std::holds_alternative<RunSummary>(run.log.newest.back())) {
    return Damaged(model, "a finished run has no summary");
  }
  run.summary = std::get<RunSummary>(run.log.newest.back());
  run.log.newest.pop_back();
  --run.log.count;
  if (message.has_unfinished()) run.unfinished = Decode(message.unfinished());
  return run;
}

}  // namespace backprop::records
