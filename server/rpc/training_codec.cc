#include "server/rpc/training_codec.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/rpc/fields.h"

namespace backprop::rpc {
namespace {

// Step counts stay far from the end of int64.
constexpr int64_t kMaxIterations = int64_t{1} << 53;

void EncodeDuration(absl::Duration duration, google::protobuf::Duration* message) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  message->set_seconds(nanos / 1'000'000'000);
  message->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

v1::StopReason Encode(session::StopReason reason) {
  switch (reason) {
    case session::StopReason::kCompleted:
      return v1::STOP_REASON_COMPLETED;
    case session::StopReason::kStopped:
      return v1::STOP_REASON_STOPPED;
    case session::StopReason::kCancelled:
      return v1::STOP_REASON_CANCELLED;
    case session::StopReason::kDiverged:
      return v1::STOP_REASON_DIVERGED;
    case session::StopReason::kModelDeleted:
      return v1::STOP_REASON_MODEL_DELETED;
    case session::StopReason::kServerShutdown:
      return v1::STOP_REASON_SERVER_SHUTDOWN;
  }
  return v1::STOP_REASON_UNSPECIFIED;
}

void EncodeProgress(const session::Progress& progress, v1::Progress* message) {
  message->set_iteration(progress.iteration);
  message->set_total_iterations(progress.total_iterations);
  message->set_epoch(progress.epoch);
  message->set_step(progress.step);
  EncodeMetrics(progress.metrics, message->mutable_metrics());
  message->set_learning_rate(progress.learning_rate);
  message->set_gradient_norm(progress.gradient_norm);
  message->set_samples_per_second(progress.samples_per_second);
  EncodeDuration(progress.eta, message->mutable_eta());
}

}  // namespace

absl::StatusOr<session::RunConfig> DecodeTrainingConfig(const v1::TrainingConfig& message,
                                                        int64_t rows) {
  Fields fields;
  session::RunConfig config;
  config.batch_size = rows;
  if (message.has_batch_size()) {
    config.batch_size = message.batch_size();
    if (message.batch_size() < 1 || message.batch_size() > rows) {
      fields.Add("config.batch_size", absl::StrCat("must be in [1, ", rows, "], as the data has ",
                                                   rows, " rows, got ", message.batch_size()));
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
      }
      break;
    case v1::TrainingConfig::LENGTH_NOT_SET:
      fields.Add("config", "expected iterations or epochs, got neither");
      break;
  }
  config.shuffle = message.has_shuffle() ? message.shuffle() : config.batch_size < rows;
  config.report_every = std::max<int64_t>(config.iterations / 100, 1);
  if (message.has_report_every()) {
    config.report_every = message.report_every();
    if (message.report_every() < 1) {
      fields.Add("config.report_every",
                 absl::StrCat("must be at least 1, got ", message.report_every()));
    }
  }
  if (!fields.ok()) return fields.status();
  return config;
}

void EncodeMetrics(const session::Metrics& metrics, v1::Metrics* message) {
  message->set_loss(metrics.loss);
  if (metrics.accuracy.has_value()) message->set_accuracy(*metrics.accuracy);
  message->set_rows(metrics.rows);
}

void EncodeSummary(const session::RunSummary& summary, v1::TrainingSummary* message) {
  message->set_stop_reason(Encode(summary.stop_reason));
  message->set_iterations(summary.iterations);
  message->set_step(summary.step);
  if (summary.metrics.has_value()) EncodeMetrics(*summary.metrics, message->mutable_metrics());
  EncodeDuration(summary.elapsed, message->mutable_elapsed());
  message->set_message(summary.message);
}

void EncodeEvent(const session::Run& run, const session::RunEvent& event,
                 v1::TrainingEvent* message) {
  message->set_run(run.name());
  message->set_sequence(event.sequence);
  message->set_dropped(event.dropped);
  if (const auto* started = std::get_if<session::RunStarted>(&event.body)) {
    v1::RunStarted* out = message->mutable_started();
    out->set_total_iterations(started->total_iterations);
    out->set_iterations_per_epoch(started->iterations_per_epoch);
    out->set_rows(started->rows);
    out->set_start_step(started->start_step);
  } else if (const auto* progress = std::get_if<session::Progress>(&event.body)) {
    EncodeProgress(*progress, message->mutable_progress());
  } else {
    EncodeSummary(std::get<session::RunSummary>(event.body), message->mutable_summary());
  }
}

absl::StatusOr<engine::GradCheckOptions> DecodeGradCheckConfig(const v1::GradCheckConfig& message,
                                                               engine::DataType type) {
  Fields fields;
  engine::GradCheckOptions options;
  options.kernel_tolerance = type == engine::DataType::kFloat32 ? 1e-3 : 1e-9;
  options.seed = message.seed();
  const auto in = [&](double value, double low, bool with_low, double high, const char* field,
                      const char* range) {
    const bool good = (with_low ? value >= low : value > low) && value <= high;
    if (!good) fields.Add(field, absl::StrCat("must be in ", range, ", got ", value));
    return value;
  };
  if (message.has_epsilon()) {
    options.epsilon = in(message.epsilon(), 1e-12, true, 1, "config.epsilon", "[1e-12, 1]");
  }
  if (message.has_tolerance()) {
    options.tolerance = in(message.tolerance(), 0, false, 1, "config.tolerance", "(0, 1]");
  }
  if (message.has_kernel_tolerance()) {
    options.kernel_tolerance =
        in(message.kernel_tolerance(), 0, false, 1, "config.kernel_tolerance", "(0, 1]");
  }
  if (message.has_max_entries_per_tensor()) {
    options.max_entries_per_tensor = message.max_entries_per_tensor();
    if (message.max_entries_per_tensor() < 1) {
      fields.Add("config.max_entries_per_tensor",
                 absl::StrCat("must be at least 1, got ", message.max_entries_per_tensor()));
    }
  }
  if (!fields.ok()) return fields.status();
  return options;
}

void EncodeGradCheck(const engine::GradCheckReport& report, const engine::GradCheckOptions& options,
                     v1::GradCheckResult* message) {
  message->set_passed(report.passed);
  message->set_max_relative_error(report.max_relative_error);
  message->set_sampled(report.sampled);
  message->set_loss(report.loss);
  message->set_epsilon(options.epsilon);
  message->set_tolerance(options.tolerance);
  message->set_kernel_tolerance(options.kernel_tolerance);
  message->set_floor(report.floor);
  message->set_kernel_rows_set_aside(report.kernel_rows_set_aside);
  for (const engine::TensorGradCheck& check : report.tensors) {
    v1::TensorGradCheck* out = message->add_tensors();
    out->set_name(check.tensor.name);
    if (!check.tensor.is_bias) out->add_shape(static_cast<int32_t>(check.tensor.rows));
    out->add_shape(static_cast<int32_t>(check.tensor.cols));
    out->set_checked(check.checked);
    out->set_set_aside(check.set_aside);
    out->set_not_sampled(check.not_sampled);
    out->set_max_absolute_error(check.max_absolute_error);
    out->set_max_relative_error(check.max_relative_error);
    if (check.worst >= 0) {
      if (!check.tensor.is_bias) {
        out->add_worst_index(static_cast<int32_t>(check.worst / check.tensor.cols));
      }
      out->add_worst_index(static_cast<int32_t>(check.worst % check.tensor.cols));
    }
    out->set_worst_analytic(check.worst_analytic);
    out->set_worst_numeric(check.worst_numeric);
    out->set_kernel_max_relative_error(check.kernel_max_relative_error);
    out->set_passed(check.passed);
  }
}

}  // namespace backprop::rpc
