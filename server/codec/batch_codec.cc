#include "server/codec/batch_codec.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/tensor_codec.h"
#include "server/engine/loss.h"

namespace backprop::codec {
namespace {

using base::FieldError;
using engine::Loss;

absl::Status CheckTargets(const engine::Dataset& data, Loss loss, absl::string_view field) {
  if (!engine::Classifies(loss)) return absl::OkStatus();
  const int64_t k = data.targets_per_row;
  for (int64_t i = 0; i < data.rows; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      const double y = data.targets.Get(i * k + j);
      if (y < 0 || y > 1) {
        return FieldError(absl::StrCat(field, "[", i, "][", j, "]"),
                          absl::StrCat("must be in [0, 1], got ", y));
      }
      sum += y;
    }
    if (loss == Loss::kSoftmaxCrossEntropy && std::abs(sum - 1) > base::kRowSumTolerance) {
      return FieldError(absl::StrCat(field, "[", i, "]"), absl::StrCat("must sum to 1, got ", sum));
    }
  }
  return absl::OkStatus();
}

void AppendShort(std::string* out, const std::string& name) {
  absl::StrAppend(out, base::Escape(name, base::kMaxQuotedBytes));
}

absl::StatusOr<std::vector<int32_t>> DecodeNames(
    const google::protobuf::RepeatedPtrField<std::string>& labels, absl::string_view field,
    const std::vector<std::string>& class_names, int64_t rows) {
  if (class_names.empty()) {
    return FieldError(field,
                      "must not be set, because the model has no class_names; set labels instead");
  }
  if (labels.size() != rows) {
    return FieldError(field, absl::StrCat("expected ", rows, " names, got ", labels.size()));
  }
  std::vector<int32_t> classes;
  for (int i = 0; i < labels.size(); ++i) {
    const auto it = std::find(class_names.begin(), class_names.end(), labels[i]);
    if (it == class_names.end()) {
      constexpr size_t kShown = 10;
      const bool more = class_names.size() > kShown;
      const auto end =
          class_names.begin() + static_cast<int64_t>(std::min(class_names.size(), kShown));
      return FieldError(absl::StrCat(field, "[", i, "]"),
                        absl::StrCat("expected one of ",
                                     absl::StrJoin(class_names.begin(), end, ", ", AppendShort),
                                     more ? ", …" : "", ", got ", base::Quote(labels[i])));
    }
    classes.push_back(static_cast<int32_t>(it - class_names.begin()));
  }
  return classes;
}

}  // namespace

absl::Status DecodeSampleWeights(const v1::Tensor& tensor, const std::string& field,
                                 bool may_be_zero, engine::Dataset* data) {
  MatrixRules rules;
  rules.field = field;
  rules.rows = data->rows;
  rules.type = data->inputs.type();
  rules.is_data = true;
  rules.is_vector = true;
  auto weights = DecodeMatrix(tensor, rules);
  if (!weights.ok()) return weights.status();
  double sum = 0;
  for (int64_t i = 0; i < data->rows; ++i) {
    const double weight = weights->elements.Get(i);
    if (weight < 0) {
      return FieldError(absl::StrCat(field, "[", i, "]"),
                        absl::StrCat("must be at least 0, got ", weight));
    }
    sum += weight;
  }
  if (sum == 0 && !may_be_zero) return FieldError(field, "must not all be 0");
  if (!std::isfinite(sum)) return FieldError(field, "must have a finite sum");
  data->sample_weights = std::move(weights->elements);
  return absl::OkStatus();
}

absl::StatusOr<engine::Dataset> DecodeInputs(const v1::Tensor& inputs, absl::string_view field,
                                             const engine::Network& network,
                                             const records::ModelInfo& model,
                                             const base::Limits& limits) {
  MatrixRules rules;
  rules.field = std::string(field);
  rules.cols = network.inputs();
  rules.max_rows = limits.max_rows;
  rules.type = network.spec().data_type;
  rules.column_names = &model.feature_names;
  rules.is_data = true;
  auto matrix = DecodeMatrix(inputs, rules);
  if (!matrix.ok()) return matrix.status();
  engine::Dataset data;
  data.rows = matrix->rows;
  data.inputs_per_row = rules.cols;
  data.inputs = std::move(matrix->elements);
  return data;
}

absl::StatusOr<engine::Dataset> DecodeBatch(const v1::Batch& batch, absl::string_view field,
                                            const engine::Network& network,
                                            const records::ModelInfo& model,
                                            const base::Limits& limits) {
  auto data = DecodeInputs(batch.inputs(), absl::StrCat(field, ".inputs"), network, model, limits);
  if (!data.ok()) return data.status();
  if (batch.has_sample_weights()) {
    const absl::Status status =
        DecodeSampleWeights(batch.sample_weights(), absl::StrCat(field, ".sample_weights"),
                            /*may_be_zero=*/false, &*data);
    if (!status.ok()) return status;
  }

  const int given = batch.has_labels() + !batch.label_names().empty() + batch.has_targets();
  if (given != 1) {
    return FieldError(field, absl::StrCat("expected one of labels, label_names and targets, got ",
                                          given == 0 ? "none" : "several"));
  }
  if (!batch.has_targets()) {
    const std::string path = absl::StrCat(field, batch.has_labels() ? ".labels" : ".label_names");
    const int64_t classes = engine::ClassesOf(network.spec().loss.kind, network.outputs());
    if (classes == 0) {
      return FieldError(
          path, engine::Classifies(network.spec().loss.kind)
                    ? "must not be set, because a model with several binary outputs takes targets"
                    : "must not be set, because a regression model takes targets");
    }
    auto decoded = batch.has_labels()
                       ? DecodeClasses(batch.labels(), path, classes, data->rows)
                       : DecodeNames(batch.label_names(), path, model.class_names, data->rows);
    if (!decoded.ok()) return decoded.status();
    data->classes = *std::move(decoded);
    return data;
  }
  MatrixRules rules;
  rules.field = absl::StrCat(field, ".targets");
  rules.rows = data->rows;
  rules.cols = network.outputs();
  rules.type = network.spec().data_type;
  rules.is_data = true;
  auto targets = DecodeMatrix(batch.targets(), rules);
  if (!targets.ok()) return targets.status();
  data->targets_per_row = rules.cols;
  data->targets = std::move(targets->elements);
  const absl::Status status = CheckTargets(*data, network.spec().loss.kind, rules.field);
  if (!status.ok()) return status;
  return data;
}

}  // namespace backprop::codec
