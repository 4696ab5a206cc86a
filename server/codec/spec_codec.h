// Between ModelSpec messages and the engine's specs: the one place that validates them.
#ifndef BACKPROP_SERVER_CODEC_SPEC_CODEC_H_
#define BACKPROP_SERVER_CODEC_SPEC_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/session/environment.h"

namespace backprop::codec {

// Defaults filled in. INVALID_ARGUMENT with every violation found, fields from "spec."; or
// RESOURCE_EXHAUSTED for too many layers or parameters. Class and feature names are checked too.
absl::StatusOr<engine::NetworkSpec> DecodeSpec(const v1::ModelSpec& message,
                                               const base::Limits& limits);

// mean and std, both of `features` numbers or both empty; violations, from `field`, are added.
engine::Standardization DecodeStandardization(const v1::InputStandardization& message,
                                              const std::string& field, int64_t features,
                                              base::Fields* fields);
void EncodeStandardization(const engine::Standardization& standardization,
                           v1::InputStandardization* message);

// With every default written out.
void EncodeSpec(const engine::NetworkSpec& spec, v1::ModelSpec* message);

// A spec as the store keeps it: the message, every default written out, with the names that belong
// to it. Limits do not matter when it is read again.
std::string EncodeSpecRecord(const engine::NetworkSpec& spec,
                             const std::vector<std::string>& class_names,
                             const std::vector<std::string>& feature_names);
absl::StatusOr<session::DecodedSpec> DecodeSpecRecord(absl::string_view record);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_SPEC_CODEC_H_
