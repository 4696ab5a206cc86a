// Decodes Batch messages into the engine's rows.
#ifndef BACKPROP_SERVER_CODEC_BATCH_CODEC_H_
#define BACKPROP_SERVER_CODEC_BATCH_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/tensor.pb.h"
#include "server/base/limits.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/records/model_info.h"

namespace backprop::codec {

// Decodes rows with their labels or targets and checks them against a model. Errors:
// INVALID_ARGUMENT, with field paths that start with `field`, such as "batch"; RESOURCE_EXHAUSTED
// for more than max_rows rows.
absl::StatusOr<engine::Dataset> DecodeBatch(const v1::Batch& batch, absl::string_view field,
                                            const engine::Network& network,
                                            const records::ModelInfo& model,
                                            const base::Limits& limits);

// The same for the inputs alone.
absl::StatusOr<engine::Dataset> DecodeInputs(const v1::Tensor& inputs, absl::string_view field,
                                             const engine::Network& network,
                                             const records::ModelInfo& model,
                                             const base::Limits& limits);

// Decodes one weight for each row of `data`, whose rows and inputs must be set. Each weight must be
// finite and at least 0. Their sum must be finite, and positive unless `may_be_zero`.
absl::Status DecodeSampleWeights(const v1::Tensor& tensor, const std::string& field,
                                 bool may_be_zero, engine::Dataset* data);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_BATCH_CODEC_H_
