// From Batch messages to the engine's rows.
#ifndef BACKPROP_SERVER_CODEC_BATCH_CODEC_H_
#define BACKPROP_SERVER_CODEC_BATCH_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/tensor.pb.h"
#include "server/base/limits.h"
#include "server/engine/data.h"
#include "server/session/session.h"

namespace backprop::codec {

// Rows with what is wanted of them, checked against the model. Fields from `field`, such as
// "batch".
absl::StatusOr<engine::Dataset> DecodeBatch(const v1::Batch& batch, absl::string_view field,
                                            const session::Session& model,
                                            const base::Limits& limits);

// Inputs alone.
absl::StatusOr<engine::Dataset> DecodeInputs(const v1::Tensor& inputs, absl::string_view field,
                                             const session::Session& model,
                                             const base::Limits& limits);

// One weight for each row: finite, at least 0, and not all 0 unless they may be.
absl::Status DecodeSampleWeights(const v1::Tensor& tensor, const std::string& field,
                                 bool may_be_zero, engine::Dataset* data);

// RESOURCE_EXHAUSTED about `field` if a pass over `rows` rows needs more memory than the limit.
absl::Status CheckWorkspace(const engine::Network& network, int64_t rows, engine::PassKind kind,
                            absl::string_view field, const base::Limits& limits);

// The same for `what`, which takes so many bytes.
absl::Status CheckMemory(int64_t bytes, absl::string_view what, int64_t rows,
                         absl::string_view field, const base::Limits& limits);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_BATCH_CODEC_H_
