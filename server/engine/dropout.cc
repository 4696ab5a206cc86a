#include "server/engine/dropout.h"

#include <array>

namespace backprop::engine {

template <class T>
void DropoutMask(const RandomStream& random, size_t layer, double rate, const MaskPart& part,
                 T* mask) {
  const auto threshold = static_cast<uint64_t>(rate * 0x1p32);
  const T kept = static_cast<T>(1 / (1 - rate));
  const uint64_t first = static_cast<uint64_t>(layer) << 48;
  std::array<uint32_t, 4> block = {};
  int64_t position = -1;  // position of `block`
  for (int64_t i = 0; i < part.rows; ++i) {
    for (int64_t j = 0; j < part.units; ++j) {
      const int64_t e = (part.first_row + i) * part.units + j;
      if (e / 4 != position) {
        position = e / 4;
        block = random.Block(first + static_cast<uint64_t>(position));
      }
      mask[i * part.row_stride + j * part.unit_stride] =
          block[static_cast<size_t>(e % 4)] >= threshold ? kept : T(0);
    }
  }
}

template void DropoutMask(const RandomStream&, size_t, double, const MaskPart&, float*);
template void DropoutMask(const RandomStream&, size_t, double, const MaskPart&, double*);

}  // namespace backprop::engine
