#include "server/records/run_records.h"

#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/split.h"
#include "server/records/frame.h"
#include "server/records/messages.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"

namespace backprop::records {
namespace {

using records::Decode;
using records::Encode;

constexpr int64_t kMostElapsedNanos = int64_t{1} << 62;  // 146 years

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

// The batches that were made must be some of those that the plan has.
void Check(const v1::Epoch& message, Rules* rules) {
  rules->Between("epoch.rows", message.rows(), 1, base::kMaxDatasetRows);
  rules->Between("epoch.batch_size", message.batch_size(), 1, base::kMaxDatasetRows);
  const double split = message.validation_split();
  rules->Require(split >= 0 && split < 1, "epoch.validation_split", "a number in [0, 1)", split);
  if (!rules->ok()) return;
  const int64_t training = message.rows() - engine::ValidationRows(message.rows(), split);
  rules->Between("epoch.batches", message.batches(), 1,
                 engine::BatchesPerEpoch(training, message.batch_size()) - 1);
  rules->Between("epoch.step", message.step(), message.batches(), base::kMaxSteps);
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

// Whether the settings are valid for some rows. Fields that older versions did not write are 0.
void Check(const v1::RunConfig& message, Rules* rules) {
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  rules->Between("config.iterations", message.iterations(), 1, base::kMaxIterations);
  rules->Between("config.batch_size", message.batch_size(), 1, base::kMaxDatasetRows);
  rules->Between("config.report_every", message.report_every(), 1, kNoLimit);
  rules->Between("config.report_interval_nanos", message.report_interval_nanos(), 0, kNoLimit);
  const double split = message.validation_split();
  rules->Require(split >= 0 && split < 1, "config.validation_split", "a number in [0, 1)", split);
  const int64_t every = message.checkpoint_every();
  rules->Between("config.checkpoint_every", every, 0, kNoLimit);
  rules->Between("config.keep_last", message.keep_last(), every > 0 ? 1 : 0, base::kMostKeptLast);
  if (message.early_stopping()) {
    rules->Between("config.patience", message.patience(), 1, kNoLimit);
    rules->NotNegative("config.min_delta", message.min_delta());
  }
  if (message.has_resumed()) Check(message.resumed(), rules);
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

void Check(const v1::RunLog& message, Rules* rules) {
  const auto check = [&](const v1::Event& event) {
    rules->Require(event.event_case() != v1::Event::EVENT_NOT_SET, "an event of the log",
                   "one of a known kind", "another");
    rules->Between("an event's stop_reason", event.summary().stop_reason(), 0,
                   int64_t{kStopReasons} - 1);
  };
  for (const v1::Event& event : message.first()) check(event);
  for (const v1::Event& event : message.newest()) check(event);
}

// The events that a log of `first` and `newest` events can have had in all. A reader of the log
// relies on them: those after the first ones and before the newest ones were dropped.
void CheckCounts(int64_t first, int64_t newest, int64_t count, Rules* rules) {
  rules->Between("first events of the log", first, 0, base::kKeptFirstEvents);
  rules->Between("newest events of the log", newest, 0, int64_t{base::kKeptEvents});
  rules->Between("count of the log", count, first + newest, newest > 0 ? base::kMaxSteps : first);
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
  Rules rules(model);
  rules.Between("a run's number", message.number(), 1, base::kMaxIterations);
  rules.Steps("a run's start_step", message.start_step());
  if (message.resumes()) {
    Check(message.config(), &rules);
    rules.Require((message.training_chunks() > 0) != (message.training_dataset() != 0),
                  "rows of a run", "either chunks or a dataset",
                  message.training_chunks() > 0 ? "both" : "none");
    rules.Require(message.validation_chunks() == 0 || message.validation_dataset() == 0,
                  "validation rows of a run", "either chunks or a dataset", "both");
  }
  if (!rules.ok()) return rules.status();
  StoredRun run;
  run.number = message.number();
  if (message.resumes()) run.config = Decode(message.config());  // not used otherwise
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

namespace {

absl::Status Check(const v1::Mark& message, absl::string_view model) {
  Rules rules(model);
  const int64_t made = message.iteration();
  rules.Between("a mark's phase", message.phase(), 1, 3);
  rules.Between("a mark's iteration", made, message.phase() == 1 ? 0 : 1, base::kMaxIterations);
  rules.Steps("a mark's samples", message.samples());
  rules.Between("a mark's elapsed_nanos", message.elapsed_nanos(), 0, kMostElapsedNanos);
  rules.Between("a mark's best_iteration", message.best_iteration(), 0, made);
  rules.Between("a mark's bad_epochs", message.bad_epochs(), 0, made);
  rules.Between("a mark's kept_iteration", message.kept_iteration(), 0, made);
  CheckCounts(message.log().first_size(), message.log().newest_size(), message.log().count(),
              &rules);
  if (rules.ok()) Check(message.log(), &rules);
  return rules.status();
}

}  // namespace

absl::StatusOr<StoredMark> DecodeMark(absl::string_view value, absl::string_view model) {
  v1::Mark message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  const absl::Status checked = Check(message, model);
  if (!checked.ok()) return checked;
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

namespace {

absl::Status Check(const v1::FinishedRun& message, absl::string_view model) {
  Rules rules(model);
  const v1::RunLog& log = message.log();
  const int newest = log.newest_size();
  rules.Between("a run's number", message.number(), 1, base::kMaxIterations);
  Check(message.config(), &rules);
  rules.Require(newest > 0 && log.newest(newest - 1).has_summary(), "a finished run", "a summary",
                "none");
  // Without the summary, which is added to the log again.
  rules.Between("count of the log", log.count(), 1, base::kMaxSteps);
  if (rules.ok()) CheckCounts(log.first_size(), newest - 1, log.count() - 1, &rules);
  if (rules.ok()) Check(log, &rules);
  if (message.has_unfinished()) Check(message.unfinished(), &rules);
  return rules.status();
}

}  // namespace

absl::StatusOr<FinishedRun> DecodeFinishedRun(absl::string_view value, absl::string_view model) {
  v1::FinishedRun message;
  const absl::Status opened = Open(value, model, &message);
  if (!opened.ok()) return opened;
  const absl::Status checked = Check(message, model);
  if (!checked.ok()) return checked;
  FinishedRun run;
  run.number = message.number();
  run.config = Decode(message.config());
  run.log = Decode(message.log());
  run.summary = std::get<RunSummary>(run.log.newest.back());
  run.log.newest.pop_back();
  --run.log.count;
  if (message.has_unfinished()) run.unfinished = Decode(message.unfinished());
  return run;
}

}  // namespace backprop::records
