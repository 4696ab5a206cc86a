// Converts between Parameters messages and a model's state.
#ifndef BACKPROP_SERVER_CODEC_PARAMETERS_CODEC_H_
#define BACKPROP_SERVER_CODEC_PARAMETERS_CODEC_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/model.pb.h"
#include "server/base/limits.h"
#include "server/engine/network.h"

namespace backprop::codec {

using NamedTensors = google::protobuf::RepeatedPtrField<v1::NamedTensor>;

void EncodeParameters(const engine::Network& network, const engine::State& state,
                      v1::TensorEncoding encoding, bool with_optimizer_state,
                      v1::Parameters* message);

// Upper bound of the size in bytes of the message that EncodeParameters would write.
int64_t EncodedParametersBytes(const engine::Network& network, v1::TensorEncoding encoding,
                               bool with_optimizer_state);

// RESOURCE_EXHAUSTED if that size is too large for a reply.
absl::Status CheckParametersSize(const engine::Network& network, v1::TensorEncoding encoding,
                                 bool with_optimizer_state, const base::Limits& limits);

// INVALID_ARGUMENT about `encoding` if its value is unknown.
absl::Status CheckEncoding(v1::TensorEncoding encoding);

// A copy of `current` with the values of the message. Tensors that the message omits keep their
// values; with `require_all`, every parameter tensor is required. Optimiser state must be complete
// or absent; if it is absent, it is set to zero. INVALID_ARGUMENT, with field paths that start
// with `field`.
absl::StatusOr<std::shared_ptr<engine::State>> DecodeParameters(const v1::Parameters& message,
                                                                absl::string_view field,
                                                                const engine::Network& network,
                                                                const engine::State& current,
                                                                bool require_all);

// `gradients` has one value for each parameter, in the layout of the parameters and in the
// network's precision.
void EncodeGradients(const engine::Network& network, const std::byte* gradients,
                     v1::TensorEncoding encoding, NamedTensors* tensors);
// The same layout. Every tensor is required. INVALID_ARGUMENT, with field paths from `field`.
absl::StatusOr<engine::Buffer> DecodeGradients(const NamedTensors& tensors,
                                               const std::string& field,
                                               const engine::Network& network);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_PARAMETERS_CODEC_H_
