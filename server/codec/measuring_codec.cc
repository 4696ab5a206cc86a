#include "server/codec/measuring_codec.h"

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"

namespace backprop::codec {

absl::StatusOr<engine::GradCheckOptions> DecodeGradCheckConfig(const v1::GradCheckConfig& message,
                                                               engine::DataType type) {
  base::Fields fields;
  engine::GradCheckOptions options;
  options.kernel_tolerance = type == engine::DataType::kFloat32 ? 1e-4 : 1e-9;
  options.seed = message.seed();
  const auto in = [&](double value, double low, bool with_low, double high, const char* field,
                      const char* range) {
    const bool good = (with_low ? value >= low : value > low) && value <= high;
    if (!good) fields.Add(field, absl::StrCat("must be in ", range, ", got ", value));
    return value;
  };
  if (message.has_epsilon()) {
    in(message.epsilon(), 1e-12, true, 1, "config.epsilon", "[1e-12, 1]");  // checked, not used
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

namespace {

v1::GradCheckVerdict EncodeVerdict(engine::Verdict verdict) {
  switch (verdict) {
    case engine::Verdict::kPassed:
      return v1::GRAD_CHECK_VERDICT_PASSED;
    case engine::Verdict::kFailed:
      return v1::GRAD_CHECK_VERDICT_FAILED;
    case engine::Verdict::kInconclusive:
      return v1::GRAD_CHECK_VERDICT_INCONCLUSIVE;
  }
  return v1::GRAD_CHECK_VERDICT_UNSPECIFIED;
}

}  // namespace

void EncodeGradCheck(const engine::GradCheckReport& report, const engine::GradCheckOptions& options,
                     v1::GradCheckResult* message) {
  message->set_verdict(EncodeVerdict(report.verdict));
  message->set_explanation(report.explanation);
  message->set_passed(report.verdict == engine::Verdict::kPassed);
  message->set_max_relative_error(report.max_relative_error);
  message->set_sampled(report.sampled);
  message->set_loss(report.loss);
  message->set_tolerance(options.tolerance);
  message->set_kernel_tolerance(options.kernel_tolerance);
  for (const engine::TensorGradCheck& check : report.tensors) {
    v1::TensorGradCheck* out = message->add_tensors();
    out->set_name(check.tensor.name);
    if (!check.tensor.is_bias) out->add_shape(static_cast<int32_t>(check.tensor.rows));
    out->add_shape(static_cast<int32_t>(check.tensor.cols));
    out->set_checked(check.checked);
    out->set_set_aside(check.set_aside);
    out->set_not_sampled(check.not_sampled);
    out->set_unresolved(check.unresolved);
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
    out->set_worst_error_bound(check.worst_error_bound);
    out->set_kernel_max_relative_error(check.kernel_max_relative_error);
    out->set_kernel_max_bound_ratio(check.kernel_max_bound_ratio);
    out->set_verdict(EncodeVerdict(check.verdict));
    out->set_explanation(check.explanation);
    out->set_passed(check.verdict == engine::Verdict::kPassed);
  }
}

namespace {

void EncodeAverage(const engine::AverageScores& scores, v1::AverageMetrics* message) {
  message->set_precision(scores.precision);
  message->set_recall(scores.recall);
  message->set_f1(scores.f1);
}

}  // namespace

void EncodeClassification(const engine::ClassificationMetrics& metrics, int64_t top_k,
                          const std::vector<std::string>& class_names,
                          v1::ClassificationMetrics* message) {
  message->set_accuracy(metrics.accuracy);
  if (metrics.top_k_accuracy.has_value()) {
    message->set_top_k_accuracy(*metrics.top_k_accuracy);
    message->set_top_k(static_cast<int32_t>(top_k));
  }
  message->mutable_confusion_matrix()->Add(metrics.confusion.begin(), metrics.confusion.end());
  for (size_t c = 0; c < metrics.classes.size(); ++c) {
    const engine::ClassScores& scores = metrics.classes[c];
    v1::ClassMetrics* out = message->add_classes();
    out->set_class_index(static_cast<int32_t>(c));
    if (!class_names.empty()) out->set_class_name(class_names[c]);
    out->set_precision(scores.precision);
    out->set_recall(scores.recall);
    out->set_f1(scores.f1);
    out->set_support(scores.support);
    if (scores.roc_auc.has_value()) out->set_roc_auc(*scores.roc_auc);
  }
  EncodeAverage(metrics.macro, message->mutable_macro());
  EncodeAverage(metrics.weighted, message->mutable_weighted());
  if (metrics.roc_auc.has_value()) message->set_roc_auc(*metrics.roc_auc);
  if (metrics.log_loss.has_value()) message->set_log_loss(*metrics.log_loss);
}

void EncodeRegression(const engine::RegressionMetrics& metrics, v1::RegressionMetrics* message) {
  message->set_mean_squared_error(metrics.mean_squared_error);
  message->set_root_mean_squared_error(metrics.root_mean_squared_error);
  message->set_mean_absolute_error(metrics.mean_absolute_error);
  message->set_r2(metrics.r2);
}

}  // namespace backprop::codec
