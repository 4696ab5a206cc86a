#include "server/records/dataset_info.h"

#include <cmath>

#include "server/base/limits.h"
#include "server/records/frame.h"
#include "server/records/records.pb.h"
#include "server/records/rules.h"

namespace backprop::records {

std::string EncodeDataset(const DatasetInfo& info) {
  v1::Dataset message;
  message.set_uid(info.uid);
  message.set_ready(info.ready);
  message.set_rows(info.rows);
  message.set_inputs_per_row(info.inputs_per_row);
  message.set_targets_per_row(info.targets_per_row);
  message.set_sample_weights(info.sample_weights);
  message.set_bytes_per_number(static_cast<uint32_t>(engine::SizeOf(info.data_type)));
  message.mutable_class_names()->Add(info.class_names.begin(), info.class_names.end());
  message.mutable_labels()->insert(info.labels.begin(), info.labels.end());
  message.set_create_time_unix_nanos(absl::ToUnixNanos(info.create_time));
  message.set_request_id(info.request_id);
  message.set_size_bytes(info.size_bytes);
  message.set_largest_class(info.largest_class);
  message.set_least_target(info.least_target);
  message.set_largest_target(info.largest_target);
  message.set_row_sum_error(info.row_sum_error);
  message.set_weight_sum(info.weight_sum);
  message.mutable_feature_names()->Add(info.feature_names.begin(), info.feature_names.end());
  return Seal(message);
}

namespace {

// Limits of what a record can claim: numbers in all rows, and bytes.
constexpr int64_t kMostNumbers = int64_t{1} << 48;
constexpr int64_t kMostDatasetBytes = int64_t{1} << 53;

// All counts of numbers and bytes that are computed from a valid description are below 2^60.
void CheckCounts(const v1::Dataset& message, Rules* rules) {
  const int64_t least = message.rows() > 0 ? 1 : 0;
  rules->Between("rows", message.rows(), message.ready() ? 1 : 0, base::kMaxDatasetRows);
  rules->Between("inputs_per_row", message.inputs_per_row(), least, kMostPerRow);
  rules->Between("targets_per_row", message.targets_per_row(), 0, kMostPerRow);
  rules->Between("size_bytes", message.size_bytes(), 0, kMostDatasetBytes);
  if (!rules->ok() || message.rows() == 0) return;
  const int64_t per_row = message.inputs_per_row() + message.targets_per_row() + 1;
  rules->Between("rows", message.rows(), 1, kMostNumbers / per_row);
  if (message.feature_names().empty()) return;
  rules->Equal("number of feature_names", message.feature_names_size(), message.inputs_per_row());
}

absl::Status Check(const v1::Dataset& message, absl::string_view name) {
  Rules rules(name);
  rules.Require(message.uid() != 0, "uid", "a number that is not 0", message.uid());
  CheckCounts(message, &rules);
  const uint32_t size = message.bytes_per_number();
  rules.Require(size == 4 || size == 8, "bytes_per_number", "4 or 8", size);
  rules.Between("largest_class", message.largest_class(), 0, std::numeric_limits<int32_t>::max());
  for (const double target : {message.least_target(), message.largest_target()}) {
    rules.Require(!std::isnan(target), "least_target and largest_target", "numbers", target);
  }
  rules.NotNegative("row_sum_error", message.row_sum_error());
  rules.NotNegative("weight_sum", message.weight_sum());
  return rules.status();
}

}  // namespace

absl::StatusOr<DatasetInfo> DecodeDataset(absl::string_view value, absl::string_view id) {
  v1::Dataset message;
  DatasetInfo info;
  info.id = std::string(id);
  const std::string name = info.name();
  const absl::Status opened = Open(value, name, &message);
  if (!opened.ok()) return opened;
  const absl::Status checked = Check(message, name);
  if (!checked.ok()) return checked;
  info.uid = message.uid();
  info.ready = message.ready();
  info.rows = message.rows();
  info.inputs_per_row = message.inputs_per_row();
  info.targets_per_row = message.targets_per_row();
  info.sample_weights = message.sample_weights();
  info.data_type =
      message.bytes_per_number() == 8 ? engine::DataType::kFloat64 : engine::DataType::kFloat32;
  info.class_names.assign(message.class_names().begin(), message.class_names().end());
  info.labels.insert(message.labels().begin(), message.labels().end());
  info.create_time = absl::FromUnixNanos(message.create_time_unix_nanos());
  info.request_id = message.request_id();
  info.size_bytes = message.size_bytes();
  info.largest_class = message.largest_class();
  info.least_target = message.least_target();
  info.largest_target = message.largest_target();
  info.row_sum_error = message.row_sum_error();
  info.weight_sum = message.weight_sum();
  info.feature_names.assign(message.feature_names().begin(), message.feature_names().end());
  return info;
}

}  // namespace backprop::records
