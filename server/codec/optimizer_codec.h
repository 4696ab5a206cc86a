// Between Optimizer messages and the engine's: a part of spec_codec.
#ifndef BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_
#define BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_

#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/engine/spec.h"

namespace backprop::codec {

// Defaults filled in; violations, with fields from "spec.optimizer", added to `fields`.
engine::OptimizerSpec DecodeOptimizer(const v1::ModelSpec& spec, engine::DataType type,
                                      base::Fields* fields);

// With every default written out.
void EncodeOptimizer(const engine::OptimizerSpec& spec, v1::Optimizer* message);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_OPTIMIZER_CODEC_H_
