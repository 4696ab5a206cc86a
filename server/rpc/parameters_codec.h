// Between Parameters messages and a model's state.
#ifndef BACKPROP_SERVER_RPC_PARAMETERS_CODEC_H_
#define BACKPROP_SERVER_RPC_PARAMETERS_CODEC_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/model.pb.h"
#include "server/engine/network.h"

namespace backprop::rpc {

void EncodeParameters(const engine::Network& network, const engine::State& state,
                      v1::TensorEncoding encoding, bool with_optimizer_state,
                      v1::Parameters* message);

// Bytes of tensors that EncodeParameters would write.
int64_t EncodedParametersBytes(const engine::Network& network, v1::TensorEncoding encoding,
                               bool with_optimizer_state);

// `current` with what the message brings put in its place. Optimiser state is taken whole or, if
// there is none, set to zero. With `require_all` every parameter tensor must be there. Fields from
// `field`.
absl::StatusOr<std::shared_ptr<engine::State>> DecodeParameters(const v1::Parameters& message,
                                                                absl::string_view field,
                                                                const engine::Network& network,
                                                                const engine::State& current,
                                                                bool require_all);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_PARAMETERS_CODEC_H_
