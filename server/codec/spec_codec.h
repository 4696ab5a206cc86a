// Converts between ModelSpec messages and the engine's specs. Only this file and its parts
// (loss_codec, optimizer_codec) validate specs.
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

namespace backprop::codec {

// Fills in defaults and checks the spec, including its class and feature names. INVALID_ARGUMENT
// with every violation found, with field paths from "spec."; RESOURCE_EXHAUSTED for too many layers
// or parameters.
absl::StatusOr<engine::NetworkSpec> DecodeSpec(const v1::ModelSpec& message,
                                               const base::Limits& limits);

// mean and std must both have `features` numbers or both be empty. Adds violations, with field
// paths that start with `field`.
engine::Standardization DecodeStandardization(const v1::InputStandardization& message,
                                              const std::string& field, int64_t features,
                                              base::Fields* fields);
void EncodeStandardization(const engine::Standardization& standardization,
                           v1::InputStandardization* message);

// Writes every default explicitly.
void EncodeSpec(const engine::NetworkSpec& spec, v1::ModelSpec* message);

// A spec as the store keeps it: a serialized ModelSpec with every default written explicitly and
// with the class and feature names. DecodeSpecRecord does not apply the server's limits, so that a
// model stays readable after a limit is lowered. It returns DATA_LOSS if the record cannot be
// parsed, or the errors of DecodeSpec.
struct DecodedSpec {
  engine::NetworkSpec spec;
  std::vector<std::string> class_names;
  std::vector<std::string> feature_names;
};
std::string EncodeSpecRecord(const engine::NetworkSpec& spec,
                             const std::vector<std::string>& class_names,
                             const std::vector<std::string>& feature_names);
absl::StatusOr<DecodedSpec> DecodeSpecRecord(absl::string_view record);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_SPEC_CODEC_H_
