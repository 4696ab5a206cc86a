// The precisions of the contract and ours.
#ifndef BACKPROP_SERVER_CODEC_DATA_TYPES_H_
#define BACKPROP_SERVER_CODEC_DATA_TYPES_H_

#include "backprop/v1/tensor.pb.h"
#include "server/codec/enum_table.h"
#include "server/engine/spec.h"

namespace backprop::codec {

inline constexpr EnumPair<v1::DataType, engine::DataType> kDataTypes[] = {
    {v1::DATA_TYPE_FLOAT32, engine::DataType::kFloat32},
    {v1::DATA_TYPE_FLOAT64, engine::DataType::kFloat64}};

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_DATA_TYPES_H_
