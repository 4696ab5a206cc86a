#include "server/engine/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace backprop::engine {
namespace {

constexpr uint64_t kMultiplier0 = 0xD2511F53;
constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
constexpr uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }
constexpr uint64_t Join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}
constexpr double ToUnit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {High(product1) ^ counter[1] ^ key[0], Low(product1),
               High(product0) ^ counter[3] ^ key[1], Low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// Counter: position (64 bits), then index (low 32 bits), then purpose with the index's high bits.
std::array<uint32_t, 4> RandomStream::Block(uint64_t position) const {
  return Philox4x32({Low(position), High(position), Low(index_),
                     static_cast<uint32_t>(purpose_) << 24 ^ High(index_)},
                    {Low(seed_), High(seed_)});
}

uint64_t RandomStream::Bits(uint64_t position) const {
  const auto block = Block(position);
  return Join(block[0], block[1]);
}

double RandomStream::Uniform(uint64_t position) const { return ToUnit(Bits(position)); }

double RandomStream::Normal(uint64_t position) const {
  const auto block = Block(position);
  const double u1 = 1 - ToUnit(Join(block[0], block[1]));  // in (0, 1]
  const double u2 = ToUnit(Join(block[2], block[3]));
  return std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::numbers::pi * u2);
}

uint64_t RandomStream::Below(uint64_t bound, uint64_t position) const {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(Bits(position)) * bound >> 64);
}

void Permutation(const RandomStream& random, std::span<int32_t> order) {
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;) {
    std::swap(order[i], order[random.Below(i + 1, i)]);
  }
}

}  // namespace backprop::engine
