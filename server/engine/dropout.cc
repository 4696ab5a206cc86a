#include "server/engine/dropout.h"

namespace backprop::engine {

template <class T>
void DropoutMask(const RandomStream& random, size_t layer, double rate, int64_t count, T* mask) {
  const auto threshold = static_cast<uint64_t>(rate * 0x1p32);
  const T kept = static_cast<T>(1 / (1 - rate));
  const uint64_t first = static_cast<uint64_t>(layer) << 48;
  for (int64_t e = 0; e < count; e += 4) {
    const auto block = random.Block(first + static_cast<uint64_t>(e) / 4);
    for (int64_t w = 0; w < 4 && e + w < count; ++w) {
      mask[e + w] = block[static_cast<size_t>(w)] >= threshold ? kept : T(0);
    }
  }
}

template void DropoutMask(const RandomStream&, size_t, double, int64_t, float*);
template void DropoutMask(const RandomStream&, size_t, double, int64_t, double*);

}  // namespace backprop::engine
