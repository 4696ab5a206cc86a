// Converts between Optimizer messages and the engine's specs. A part of spec_codec.
#ifndef BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_
#define BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_

#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/engine/spec.h"

namespace backprop::codec {

// Fills in defaults and adds violations, with field paths from "spec.optimizer", to `fields`.
engine::OptimizerSpec DecodeOptimizer(const v1::ModelSpec& spec, engine::DataType type,
                                      base::Fields* fields);

// Writes every default explicitly.
void EncodeOptimizer(const engine::OptimizerSpec& spec, v1::Optimizer* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_
