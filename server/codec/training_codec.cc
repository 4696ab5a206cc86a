#include "server/codec/training_codec.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/limits.h"
#include "server/codec/number_rules.h"
#include "server/codec/time_codec.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/split.h"

namespace backprop::codec {
namespace {

using base::kMaxIterations;

constexpr absl::Duration kDefaultReportInterval = absl::Seconds(1);
constexpr absl::Duration kMinReportInterval = absl::Milliseconds(1);
// The limit keeps the interval within the int64 nanoseconds of a record.
constexpr absl::Duration kMaxReportInterval = absl::Hours(24 * 3653);

v1::StopReason Encode(records::StopReason reason) {
  switch (reason) {
    case records::StopReason::kCompleted:
      return v1::STOP_REASON_COMPLETED;
    case records::StopReason::kStopped:
      return v1::STOP_REASON_STOPPED;
    case records::StopReason::kCancelled:
      return v1::STOP_REASON_CANCELLED;
    case records::StopReason::kDiverged:
      return v1::STOP_REASON_DIVERGED;
    case records::StopReason::kModelDeleted:
      return v1::STOP_REASON_MODEL_DELETED;
    case records::StopReason::kServerShutdown:
      return v1::STOP_REASON_SERVER_SHUTDOWN;
    case records::StopReason::kEarlyStopped:
      return v1::STOP_REASON_EARLY_STOPPED;
    case records::StopReason::kDataLost:
      return v1::STOP_REASON_DATA_LOST;
  }
  return v1::STOP_REASON_UNSPECIFIED;
}

void EncodeProgress(const records::Progress& progress, v1::Progress* message) {
  message->set_iteration(progress.iteration);
  message->set_total_iterations(progress.total_iterations);
  message->set_epoch(progress.epoch);
  message->set_step(progress.step);
  EncodeMetrics(progress.metrics, message->mutable_metrics());
  message->set_learning_rate(progress.learning_rate);
  message->set_gradient_norm(progress.gradient_norm);
  message->set_samples_per_second(progress.samples_per_second);
  EncodeDuration(progress.eta, message->mutable_eta());
  if (progress.validation.has_value()) {
    EncodeMetrics(*progress.validation, message->mutable_validation());
  }
}

// Returns the number of rows to train on, without the rows of the validation split.
int64_t DecodeSplit(const v1::TrainingConfig& message, int64_t rows, bool has_validation,
                    base::Fields* fields, records::RunConfig* config) {
  if (!message.has_validation_split()) return rows;
  const double split = message.validation_split();
  const std::string field = "config.validation_split";
  if (has_validation) {
    fields->Add(field, "must not be set, because validation data is given");
  } else if (!(split > 0 && split < 1)) {
    fields->Add(field, absl::StrCat("must be in (0, 1), got ", split));
  } else if (engine::ValidationRows(rows, split) >= rows) {
    fields->Add(field,
                absl::StrCat("must leave rows for training, got ", split, " of ", rows, " rows"));
  } else {
    config->validation_split = split;
    return rows - engine::ValidationRows(rows, split);
  }
  return rows;
}

void DecodeReports(const v1::TrainingConfig& message, base::Fields* fields,
                   records::RunConfig* config) {
  config->report_every = std::max<int64_t>(config->iterations / 100, 1);
  if (message.has_report_every()) {
    config->report_every = message.report_every();
    NumberRules(engine::DataType::kFloat64, fields)
        .AtLeast("config.report_every", config->report_every, 1);
  }
  config->report_interval = kDefaultReportInterval;
  if (!message.has_report_interval()) return;
  config->report_interval = absl::Seconds(message.report_interval().seconds()) +
                            absl::Nanoseconds(message.report_interval().nanos());
  if (config->report_interval < kMinReportInterval ||
      config->report_interval > kMaxReportInterval) {
    fields->Add("config.report_interval",
                absl::StrCat("must be between 1ms and 10 years, got ",
                             absl::FormatDuration(config->report_interval)));
  }
}

void DecodeEarlyStopping(const v1::EarlyStopping& message, base::Fields* fields,
                         records::RunConfig* config) {
  records::EarlyStopping stopping;
  if (message.has_patience()) stopping.patience = message.patience();
  if (message.has_min_delta()) stopping.min_delta = message.min_delta();
  if (message.has_restore_best()) stopping.restore_best = message.restore_best();
  const NumberRules check(engine::DataType::kFloat64, fields);
  check.AtLeast("config.early_stopping.patience", stopping.patience, 1);
  check.NotNegative("config.early_stopping.min_delta", stopping.min_delta);
  config->early_stopping = stopping;
}

void DecodeCheckpoints(const v1::CheckpointConfig& message, base::Fields* fields,
                       records::RunConfig* config) {
  records::CheckpointPolicy policy;
  const std::string field = "config.checkpoints";
  const NumberRules check(engine::DataType::kFloat64, fields);
  if (!message.has_every_iterations() && !message.keep_best()) {
    fields->Add(field, "expected every_iterations or keep_best, got neither");
  }
  if (message.has_every_iterations()) {
    policy.every_iterations = message.every_iterations();
    check.AtLeast(field + ".every_iterations", policy.every_iterations, 1);
  }
  if (message.has_keep_last()) {
    policy.keep_last = message.keep_last();
    if (!message.has_every_iterations()) {
      fields->Add(field + ".keep_last", "requires every_iterations");
    } else if (policy.keep_last < 1 || policy.keep_last > base::kMostKeptLast) {
      fields->Add(field + ".keep_last", absl::StrCat("must be in [1, ", base::kMostKeptLast,
                                                     "], got ", policy.keep_last));
    }
  }
  policy.keep_best = message.keep_best();
  config->checkpoints = policy;
}

}  // namespace

absl::StatusOr<records::RunConfig> DecodeTrainingConfig(const v1::TrainingConfig& message,
                                                        int64_t all_rows, bool has_validation) {
  base::Fields fields;
  records::RunConfig config;
  const int64_t rows = DecodeSplit(message, all_rows, has_validation, &fields, &config);
  config.batch_size = rows;
  if (message.has_batch_size()) {
    config.batch_size = std::min<int64_t>(message.batch_size(), rows);
    if (message.batch_size() < 1) {
      fields.Add("config.batch_size",
                 absl::StrCat("must be at least 1, got ", message.batch_size()));
      config.batch_size = rows;
    }
  }
  const int64_t per_epoch = engine::BatchesPerEpoch(rows, config.batch_size);
  switch (message.length_case()) {
    case v1::TrainingConfig::kIterations:
      config.iterations = message.iterations();
      if (message.iterations() < 1 || message.iterations() > kMaxIterations) {
        fields.Add("config.iterations",
                   absl::StrCat("must be in [1, 2^53], got ", message.iterations()));
      }
      break;
    case v1::TrainingConfig::kEpochs:
      if (message.epochs() < 1 || message.epochs() > kMaxIterations / per_epoch) {
        fields.Add("config.epochs", absl::StrCat("must be in [1, ", kMaxIterations / per_epoch,
                                                 "], got ", message.epochs()));
      } else {
        config.iterations = message.epochs() * per_epoch;
        config.whole_epochs = true;
      }
      break;
    case v1::TrainingConfig::LENGTH_NOT_SET:
      fields.Add("config", "expected iterations or epochs, got neither");
      break;
  }
  config.shuffle = message.has_shuffle() ? message.shuffle() : config.batch_size < rows;
  config.continue_epoch = message.continue_epoch();
  config.redraw_split = message.redraw_validation_split();
  config.stratify = !message.has_stratify() || message.stratify();
  DecodeReports(message, &fields, &config);
  if (message.has_early_stopping()) {
    DecodeEarlyStopping(message.early_stopping(), &fields, &config);
  }
  if (message.has_checkpoints()) DecodeCheckpoints(message.checkpoints(), &fields, &config);
  if (!fields.ok()) return fields.status();
  return config;
}

void EncodeStep(const records::StepOutcome& outcome, const engine::Network& network,
                v1::StepResponse* message) {
  const engine::StepResult& result = outcome.result;
  message->set_step(outcome.step);
  EncodeMetrics(records::MetricsOf(network, result.loss, result.rows), message->mutable_metrics());
  message->set_gradient_norm(result.gradient_norm);
  message->set_learning_rate(result.learning_rate);
}

void EncodeMetrics(const records::Metrics& metrics, v1::Metrics* message) {
  message->set_loss(metrics.loss);
  if (metrics.accuracy.has_value()) message->set_accuracy(*metrics.accuracy);
  message->set_rows(metrics.rows);
}

void EncodeSummary(const records::RunSummary& summary, v1::TrainingSummary* message) {
  message->set_stop_reason(Encode(summary.stop_reason));
  message->set_iterations(summary.iterations);
  message->set_step(summary.step);
  if (summary.metrics.has_value()) EncodeMetrics(*summary.metrics, message->mutable_metrics());
  EncodeDuration(summary.elapsed, message->mutable_elapsed());
  message->set_message(summary.message);
  if (summary.validation.has_value()) {
    EncodeMetrics(*summary.validation, message->mutable_validation());
  }
  message->set_best_iteration(summary.best_iteration);
  message->set_best_loss(summary.best_loss);
  message->set_restored_best(summary.restored_best);
}

void EncodeEvent(const std::string& run, const records::RunConfig& config,
                 const records::RunEvent& event, v1::TrainingEvent* message) {
  message->set_run(run);
  message->set_sequence(event.sequence);
  message->set_dropped(event.dropped);
  if (const auto* started = std::get_if<records::RunStarted>(&event.body)) {
    v1::RunStarted* out = message->mutable_started();
    out->set_total_iterations(started->total_iterations);
    out->set_iterations_per_epoch(started->iterations_per_epoch);
    out->set_rows(started->rows);
    out->set_start_step(started->start_step);
    out->set_validation_rows(started->validation_rows);
    out->set_batch_size(config.batch_size);
    out->set_resumed_batches(config.resumed_batches());
  } else if (const auto* progress = std::get_if<records::Progress>(&event.body)) {
    EncodeProgress(*progress, message->mutable_progress());
  } else {
    EncodeSummary(std::get<records::RunSummary>(event.body), message->mutable_summary());
  }
}

}  // namespace backprop::codec
