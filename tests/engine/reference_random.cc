#include "tests/engine/reference_random.h"

#include <algorithm>
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

std::vector<int> ValidationSplit(uint64_t seed, uint64_t index, double share,
                                 const std::vector<int>& classes) {
  const int n = static_cast<int>(classes.size());
  const int m = static_cast<int>(std::ceil(share * n));
  const int k = *std::max_element(classes.begin(), classes.end()) + 1;
  std::vector<int> rows(static_cast<size_t>(k)), held(static_cast<size_t>(k));
  for (int c : classes) ++rows[static_cast<size_t>(c)];
  int pairs = 0, spare = 0, singles = 0;
  for (int r : rows) {
    pairs += r >= 2 ? 1 : 0;
    spare += r >= 1 ? r - 1 : 0;
    singles += r == 1 ? 1 : 0;
  }
  const auto least = [&](size_t c) { return pairs <= m && rows[c] >= 2 ? 1 : 0; };
  const auto most = [&](size_t c) {
    if (spare + singles < m || (spare < m && rows[c] == 1)) return rows[c];
    return std::max(rows[c] - 1, 0);
  };
  int sum = 0;
  for (size_t c = 0; c < rows.size(); ++c) {
    held[c] = std::max(std::min(m * rows[c] / n, most(c)), least(c));
    sum += held[c];
  }
  while (sum != m) {
    const int change = sum < m ? 1 : -1;
    int chosen = -1, furthest = 0;
    for (size_t c = 0; c < rows.size(); ++c) {
      if (held[c] == (change > 0 ? most(c) : least(c))) continue;
      const int distance = change * (m * rows[c] - n * held[c]);
      if (chosen < 0 || distance > furthest) {
        chosen = static_cast<int>(c);
        furthest = distance;
      }
    }
    held[static_cast<size_t>(chosen)] += change;
    sum += change;
  }
  std::vector<int> out;
  for (int row : Shuffle(seed, 5, index, n)) {
    if (held[static_cast<size_t>(classes[static_cast<size_t>(row)])]-- > 0) out.push_back(row);
  }
  std::sort(out.begin(), out.end());
  return out;
}

double Uniform(uint64_t seed, uint32_t purpose, uint64_t index, uint64_t position) {
  const auto w = Block(seed, purpose, index, position);
  const uint64_t bits = w[0] + (uint64_t{w[1]} << 32);
  return std::ldexp(static_cast<double>(bits >> 11), -53);
}

double DropoutFactor(uint64_t seed, uint64_t step, uint64_t layer, double rate, uint64_t e) {
  const uint32_t word = Block(seed, 4, step, (layer << 48) + e / 4)[e % 4];
  return static_cast<double>(word) >= std::floor(rate * 4294967296.0) ? 1 / (1 - rate) : 0;
}

}  // namespace backprop::reference
