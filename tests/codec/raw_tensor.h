// Raw tensors for tests, in either byte order.
#ifndef BACKPROP_TESTS_CODEC_RAW_TENSOR_H_
#define BACKPROP_TESTS_CODEC_RAW_TENSOR_H_

#include <type_traits>
#include <vector>

#include "backprop/v1/tensor.pb.h"
#include "server/codec/byte_order.h"

namespace backprop::codec {

template <class T>
constexpr v1::DataType DataTypeOf() {
  if constexpr (std::is_same_v<T, float>) return v1::DATA_TYPE_FLOAT32;
  if constexpr (std::is_same_v<T, double>) return v1::DATA_TYPE_FLOAT64;
  return sizeof(T) == 4 ? v1::DATA_TYPE_INT32 : v1::DATA_TYPE_INT64;
}

// A tensor without a shape. `stated` is the byte order that it declares, which need not be the true
// one.
template <class T>
v1::Tensor Raw(const std::vector<T>& elements, bool big,
               v1::ByteOrder stated = v1::BYTE_ORDER_UNSPECIFIED) {
  v1::Tensor tensor;
  tensor.set_data_type(DataTypeOf<T>());
  tensor.set_byte_order(stated);
  for (const T& element : elements) {
    const T ordered = Load<T>(reinterpret_cast<const char*>(&element), big);
    tensor.mutable_raw()->append(reinterpret_cast<const char*>(&ordered), sizeof(T));
  }
  return tensor;
}

}  // namespace backprop::codec

#endif  // BACKPROP_TESTS_CODEC_RAW_TENSOR_H_
