#include "tests/engine/reference_random.h"

#include <cmath>
#include <utility>

namespace backprop::reference {

std::vector<uint32_t> Block(uint64_t seed, uint32_t purpose, uint64_t index, uint64_t position) {
  std::vector<uint32_t> c = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                             static_cast<uint32_t>(index),
                             (purpose << 24) ^ static_cast<uint32_t>(index >> 32)};
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

std::vector<int> Shuffle(uint64_t seed, uint32_t purpose, uint64_t index, int n) {
  std::vector<int> order;
  for (int i = 0; i < n; ++i) order.push_back(i);
  for (int i = n - 1; i >= 1; --i) {
    const auto w = Block(seed, purpose, index, static_cast<uint64_t>(i));
    // ⌊bits·m / 2^64⌋ with m = i + 1 below 2^31, in two halves.
    const auto m = static_cast<uint64_t>(i) + 1;
    const uint64_t below = (uint64_t{w[1]} * m + ((uint64_t{w[0]} * m) >> 32)) >> 32;
    std::swap(order[static_cast<size_t>(i)], order[below]);
  }
  return order;
}

double DropoutFactor(uint64_t seed, uint64_t step, uint64_t layer, double rate, uint64_t e) {
  const uint32_t word = Block(seed, 4, step, (layer << 48) + e / 4)[e % 4];
  return static_cast<double>(word) >= std::floor(rate * 4294967296.0) ? 1 / (1 - rate) : 0;
}

}  // namespace backprop::reference
