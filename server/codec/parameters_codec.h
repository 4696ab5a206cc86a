// Between Parameters messages and a model's state.
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

// Bytes that EncodeParameters would write, at most.
int64_t EncodedParametersBytes(const engine::Network& network, v1::TensorEncoding encoding,
                               bool with_optimizer_state);

// OK, or RESOURCE_EXHAUSTED if they are too many for a reply.
absl::Status CheckParametersSize(const engine::Network& network, v1::TensorEncoding encoding,
                                 bool with_optimizer_state, const base::Limits& limits);

// OK, or INVALID_ARGUMENT about `encoding`.
absl::Status CheckEncoding(v1::TensorEncoding encoding);

// `current` with what the message brings put in its place. Optimiser state is taken whole or, if
// there is none, set to zero. With `require_all` every parameter tensor must be there. Fields from
// `field`.
absl::StatusOr<std::shared_ptr<engine::State>> DecodeParameters(const v1::Parameters& message,
                                                                absl::string_view field,
                                                                const engine::Network& network,
                                                                const engine::State& current,
                                                                bool require_all);

// Gradients (P), laid out as the parameters, in the network's precision.
void EncodeGradients(const engine::Network& network, const std::byte* gradients,
                     v1::TensorEncoding encoding, NamedTensors* tensors);
absl::StatusOr<engine::Buffer> DecodeGradients(const NamedTensors& tensors,
                                               const std::string& field,
                                               const engine::Network& network);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_PARAMETERS_CODEC_H_
