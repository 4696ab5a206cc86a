// The byte order of raw tensors: reads both orders and detects an undeclared big-endian tensor.
#ifndef BACKPROP_SERVER_CODEC_BYTE_ORDER_H_
#define BACKPROP_SERVER_CODEC_BYTE_ORDER_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "backprop/v1/tensor.pb.h"

namespace backprop::codec {

static_assert(std::endian::native == std::endian::little, "replies are memory as it is");

// The element at `from`. Its bytes are in this machine's order or, if `swapped`, in the opposite
// one. `from` needs no alignment.
template <class T>
T Load(const char* from, bool swapped) {
  T element;
  std::memcpy(&element, from, sizeof(T));
  if (!swapped) return element;
  auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(element);
  std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<T>(bytes);
}

// The error message for a raw tensor that declares no byte order and is almost certainly
// big-endian, otherwise "". The check uses the elements among the first 4,096 that are not 0.
// Floats are taken for big-endian if all of these elements, read as big-endian, are within
// 2^-40…2^40 in magnitude, and one of these rules holds:
// - At least 16 of them are different, and read as little-endian they are all below 2^-100 in
//   magnitude, or differ by a factor of at least 2^64, or are not all finite.
// - There are at least 4. All of them are within 2^-10…2^10 in magnitude as big-endian; read as
//   little-endian all of them are positive multiples, by a factor below 65,536, of the smallest
//   positive number of the type. This holds for big-endian 1, 0.5 or 3.
// Random bytes satisfy the first rule with a probability of 7e-9. Integers are class indices; they
// are taken for big-endian if all of these elements are multiples of 65,536 as little-endian and in
// (0, 65,536) as big-endian.
std::string LooksBigEndian(const v1::Tensor& tensor);

// A hint for the error message of a tensor that is rejected for another reason: "; as big-endian
// bytes …: see byte_order" if all of its elements, read as big-endian, would be 0 or within
// 2^-40…2^40 in magnitude and not all 0 (floats), or would be in [0, classes) (integers). Otherwise
// "". `classes` is ignored for floats.
std::string BigEndianHint(const v1::Tensor& tensor, int64_t classes);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_BYTE_ORDER_H_
