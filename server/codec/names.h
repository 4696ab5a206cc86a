// Parses and checks resource names: models/{id}, models/{id}/runs/{n},
// models/{id}/checkpoints/{id}, datasets/{id}, projects/{id}.
#ifndef BACKPROP_SERVER_CODEC_NAMES_H_
#define BACKPROP_SERVER_CODEC_NAMES_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/fields.h"
#include "server/base/text.h"

namespace backprop::codec {

// Whether `id` is 1 to 63 of [a-z0-9_-] and starts with a letter or digit. Ids of datasets and
// checkpoints follow the same rule.
bool IsModelId(absl::string_view id);

// The id in `models/{id}`, or INVALID_ARGUMENT about `field`.
absl::StatusOr<std::string> ParseModelName(absl::string_view field, absl::string_view name);
// The same for `datasets/{id}`.
absl::StatusOr<std::string> ParseDatasetName(absl::string_view field, absl::string_view name);

// The same for `projects/{id}`.
absl::StatusOr<std::string> ParseProjectName(absl::string_view field, absl::string_view name);

// The ids in `models/{id}/checkpoints/{id}`, or INVALID_ARGUMENT about `field`.
struct CheckpointName {
  std::string model;
  std::string id;
};
absl::StatusOr<CheckpointName> ParseCheckpointName(absl::string_view field, absl::string_view name);

// The number n in `run`, which must be `{model}/runs/{n}` with n ≥ 1. 0 for an empty name.
// INVALID_ARGUMENT about `run`.
absl::StatusOr<int64_t> ParseRunName(absl::string_view model, absl::string_view run);

// INVALID_ARGUMENT about `request_id` unless it is empty or 1 to 128 printable ASCII characters
// without spaces.
absl::Status CheckRequestId(absl::string_view request_id);

// Adds violations about `field` unless `names` is empty or has `expected` different names of 1 to
// 255 bytes.
void CheckNames(const google::protobuf::RepeatedPtrField<std::string>& names,
                const std::string& field, int64_t expected, base::Fields* fields);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_NAMES_H_
