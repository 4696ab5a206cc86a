// Between Loss messages and the engine's: a part of spec_codec.
#ifndef BACKPROP_SERVER_CODEC_LOSS_CODEC_H_
#define BACKPROP_SERVER_CODEC_LOSS_CODEC_H_

#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/engine/spec.h"

namespace backprop::codec {

// Sets spec->loss, whose layers and precision must have been decoded; violations, with fields from
// "spec.loss", and of the last layer where it does not suit the loss, are added to `fields`.
void DecodeLoss(const v1::ModelSpec& message, engine::NetworkSpec* spec, base::Fields* fields);

// With every default written out.
void EncodeLoss(const engine::LossSpec& loss, v1::Loss* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_LOSS_CODEC_H_
