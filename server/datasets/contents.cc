#include "server/datasets/contents.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/engine/loss.h"

namespace backprop::datasets {
namespace {

using engine::Loss;

absl::Status CheckTargets(const records::DatasetInfo& info, const engine::Network& network,
                          absl::string_view field) {
  const Loss loss = network.spec().loss.kind;
  if (info.targets_per_row != network.outputs()) {
    return base::FieldError(
        field, absl::StrCat("expected ", network.outputs(), " targets per row, but ", info.name(),
                            " has ", info.targets_per_row));
  }
  if (!engine::Classifies(loss)) return absl::OkStatus();
  if (info.least_target < 0 || info.largest_target > 1) {
    return base::FieldError(
        field, absl::StrCat("expected targets in [0, 1], but those of ", info.name(), " are in [",
                            info.least_target, ", ", info.largest_target, "]"));
  }
  if (loss == Loss::kSoftmaxCrossEntropy && info.row_sum_error > base::kRowSumTolerance) {
    return base::FieldError(
        field, absl::StrCat("expected rows of targets that sum to 1, but a row of ", info.name(),
                            " differs by ", info.row_sum_error));
  }
  return absl::OkStatus();
}

// Columns in another order would be used as if they were in the model's order.
absl::Status CheckFeatureNames(const records::DatasetInfo& info, const records::ModelInfo& model,
                               absl::string_view field) {
  if (info.feature_names.empty() || model.feature_names.empty()) return absl::OkStatus();
  if (info.feature_names.size() != model.feature_names.size()) {  // only in a forged record
    return base::FieldError(field,
                            absl::StrCat(info.name(), " does not have one feature name per input"));
  }
  for (size_t i = 0; i < info.feature_names.size(); ++i) {
    if (info.feature_names[i] == model.feature_names[i]) continue;
    return base::FieldError(
        field, absl::StrCat("expected the model's feature ", base::Quote(model.feature_names[i]),
                            " in column ", i, ", but ", info.name(), " has ",
                            base::Quote(info.feature_names[i])));
  }
  return absl::OkStatus();
}

}  // namespace

void AddRows(const engine::Dataset& rows, records::DatasetInfo* info) {
  info->rows += rows.rows;
  const int64_t row_bytes =
      (rows.inputs_per_row + rows.targets_per_row + (rows.sample_weights.count() > 0 ? 1 : 0)) *
          engine::SizeOf(rows.inputs.type()) +
      (rows.classes.empty() ? 0 : static_cast<int64_t>(sizeof(int32_t)));
  info->size_bytes += rows.rows * row_bytes;
  for (const int32_t c : rows.classes) info->largest_class = std::max(info->largest_class, c);
  const int64_t k = rows.targets_per_row;
  for (int64_t row = 0; row < rows.rows; ++row) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double y = rows.targets.Get(row * k + j);
      info->least_target = std::min(info->least_target, y);
      info->largest_target = std::max(info->largest_target, y);
      sum += y;
    }
    if (k > 0) info->row_sum_error = std::max(info->row_sum_error, std::abs(sum - 1));
    info->weight_sum += rows.sample_weights.count() > 0 ? rows.sample_weights.Get(row) : 1;
  }
}

absl::StatusOr<std::vector<int32_t>> FitClasses(const records::DatasetInfo& info,
                                                const engine::Network& network,
                                                const records::ModelInfo& model,
                                                absl::string_view field) {
  if (info.inputs_per_row != network.inputs()) {
    return base::FieldError(
        field, absl::StrCat("expected ", network.inputs(), " inputs per row, but ", info.name(),
                            " has ", info.inputs_per_row));
  }
  const absl::Status named = CheckFeatureNames(info, model, field);
  if (!named.ok()) return named;
  std::vector<int32_t> classes;
  if (info.targets_per_row > 0) {
    const absl::Status status = CheckTargets(info, network, field);
    if (!status.ok()) return status;
    return classes;
  }
  const int64_t count = engine::ClassesOf(network.spec().loss.kind, network.outputs());
  if (count == 0) {
    return base::FieldError(
        field, absl::StrCat("the model takes targets, but ", info.name(), " has classes"));
  }
  if (info.class_names.empty()) {
    if (info.largest_class < count) return classes;
    return base::FieldError(field, absl::StrCat("expected classes in [0, ", count, "), but ",
                                                info.name(), " has class ", info.largest_class));
  }
  for (const std::string& name : info.class_names) {
    const auto it = std::find(model.class_names.begin(), model.class_names.end(), name);
    if (it == model.class_names.end()) {
      return base::FieldError(field, absl::StrCat("the model has no class ", base::Quote(name),
                                                  ", but ", info.name(), " has it"));
    }
    classes.push_back(static_cast<int32_t>(it - model.class_names.begin()));
  }
  return classes;
}

}  // namespace backprop::datasets
