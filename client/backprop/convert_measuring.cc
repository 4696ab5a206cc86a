// Conversion of gradient checks and metrics.
#include <utility>

#include "client/backprop/convert.h"

namespace backprop {
namespace {

AverageMetrics FromMessage(const v1::AverageMetrics& message) {
  return {message.precision(), message.recall(), message.f1()};
}

ClassificationMetrics FromMessage(const v1::ClassificationMetrics& message) {
  ClassificationMetrics metrics;
  metrics.accuracy = message.accuracy();
  if (message.has_top_k_accuracy()) metrics.top_k_accuracy = message.top_k_accuracy();
  metrics.top_k = message.top_k();
  metrics.confusion_matrix.assign(message.confusion_matrix().begin(),
                                  message.confusion_matrix().end());
  for (const v1::ClassMetrics& from : message.classes()) {
    ClassMetrics scores;
    scores.class_index = from.class_index();
    scores.class_name = from.class_name();
    scores.precision = from.precision();
    scores.recall = from.recall();
    scores.f1 = from.f1();
    scores.support = from.support();
    if (from.has_roc_auc()) scores.roc_auc = from.roc_auc();
    metrics.classes.push_back(std::move(scores));
  }
  metrics.macro = FromMessage(message.macro());
  metrics.weighted = FromMessage(message.weighted());
  if (message.has_roc_auc()) metrics.roc_auc = message.roc_auc();
  if (message.has_log_loss()) metrics.log_loss = message.log_loss();
  return metrics;
}

}  // namespace

Evaluation FromMessage(const v1::EvaluateResponse& message) {
  Evaluation evaluation;
  evaluation.metrics = FromMessage(message.metrics());
  evaluation.step = message.step();
  if (message.has_classification()) {
    evaluation.classification = FromMessage(message.classification());
  }
  if (message.has_regression()) {
    const v1::RegressionMetrics& from = message.regression();
    evaluation.regression =
        RegressionMetrics{from.mean_squared_error(), from.root_mean_squared_error(),
                          from.mean_absolute_error(), from.r2()};
  }
  return evaluation;
}

void ToMessage(const GradCheckOptions& options, v1::GradCheckConfig* message) {
  if (options.tolerance.has_value()) message->set_tolerance(*options.tolerance);
  if (options.kernel_tolerance.has_value()) {
    message->set_kernel_tolerance(*options.kernel_tolerance);
  }
  if (options.max_entries_per_tensor.has_value()) {
    message->set_max_entries_per_tensor(*options.max_entries_per_tensor);
  }
  message->set_seed(options.seed);
}

namespace {

// An older server reports only whether the check passed, not a verdict.
GradCheckVerdict VerdictOf(v1::GradCheckVerdict verdict, bool passed) {
  switch (verdict) {
    case v1::GRAD_CHECK_VERDICT_INCONCLUSIVE:
      return GradCheckVerdict::kInconclusive;
    case v1::GRAD_CHECK_VERDICT_FAILED:
      return GradCheckVerdict::kFailed;
    default:
      return passed ? GradCheckVerdict::kPassed : GradCheckVerdict::kFailed;
  }
}

}  // namespace

GradCheckResult FromMessage(const v1::GradCheckResponse& message) {
  const v1::GradCheckResult& from = message.result();
  GradCheckResult result;
  result.passed = from.passed();
  result.max_relative_error = from.max_relative_error();
  result.sampled = from.sampled();
  result.loss = from.loss();
  result.tolerance = from.tolerance();
  result.kernel_tolerance = from.kernel_tolerance();
  result.verdict = VerdictOf(from.verdict(), from.passed());
  result.explanation = from.explanation();
  result.step = message.step();
  for (const v1::TensorGradCheck& tensor : from.tensors()) {
    TensorGradCheck check;
    check.name = tensor.name();
    check.shape.assign(tensor.shape().begin(), tensor.shape().end());
    check.checked = tensor.checked();
    check.set_aside = tensor.set_aside();
    check.not_sampled = tensor.not_sampled();
    check.max_absolute_error = tensor.max_absolute_error();
    check.max_relative_error = tensor.max_relative_error();
    check.worst_index.assign(tensor.worst_index().begin(), tensor.worst_index().end());
    check.worst_analytic = tensor.worst_analytic();
    check.worst_numeric = tensor.worst_numeric();
    check.kernel_max_relative_error = tensor.kernel_max_relative_error();
    check.worst_error_bound = tensor.worst_error_bound();
    check.kernel_max_bound_ratio = tensor.kernel_max_bound_ratio();
    check.unresolved = tensor.unresolved();
    check.verdict = VerdictOf(tensor.verdict(), tensor.passed());
    check.explanation = tensor.explanation();
    check.passed = tensor.passed();
    result.tensors.push_back(std::move(check));
  }
  return result;
}

}  // namespace backprop
