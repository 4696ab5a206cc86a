// The order of the bytes in a raw tensor: reading either one, and noticing the wrong one.
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

// The element at `from`, whose bytes are in this machine's order, or in the opposite one.
template <class T>
T Load(const char* from, bool swapped) {
  T element;
  std::memcpy(&element, from, sizeof(T));
  if (!swapped) return element;
  auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(element);
  std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<T>(bytes);
}

// The complaint about numbers that came without a byte order and are big-endian beyond reasonable
// doubt, or "". It looks at the elements that are not 0 among the first 4,096. Floats are so if,
// read as big-endian, all of them are within 2^-40…2^40 in magnitude, and either
// - at least 16 of them are different, and as little-endian they are all below 2^-100, or differ by
//   a factor of at least 2^64, or are not finite; or
// - at least 4 of them are within 2^-10…2^10 as big-endian, and as little-endian all of them
//   are whole multiples, below 65,536, of the smallest number that there is, as 1, 0.5 or 3 are.
// Random bytes pass the first rule with a probability of 7e-9. Integers, which are classes, are so
// if all of them are multiples of 65,536 and in (0, 65,536) as big-endian.
std::string LooksBigEndian(const v1::Tensor& tensor);

// For a tensor of any type that is refused anyway: "; read as big-endian, …: see byte_order" if all
// elements of it would be ordinary numbers (floats), or in [0, classes) (integers), else "".
std::string BigEndianHint(const v1::Tensor& tensor, int64_t classes);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_BYTE_ORDER_H_
