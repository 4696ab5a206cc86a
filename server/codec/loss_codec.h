// Converts between Loss messages and the engine's specs. A part of spec_codec.
#ifndef BACKPROP_SERVER_CODEC_LOSS_CODEC_H_
#define BACKPROP_SERVER_CODEC_LOSS_CODEC_H_

#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/engine/spec.h"

namespace backprop::codec {

// Sets spec->loss. The layers and the precision of `spec` must be decoded already. Adds violations
// to `fields`: field paths from "spec.loss", and the last layer if it does not suit the loss.
void DecodeLoss(const v1::ModelSpec& message, engine::NetworkSpec* spec, base::Fields* fields);

// Writes every default explicitly.
void EncodeLoss(const engine::LossSpec& loss, v1::Loss* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_LOSS_CODEC_H_
