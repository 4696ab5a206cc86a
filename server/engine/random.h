// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Every draw is a pure function of (seed, purpose, index, position), so that
// slicing, restarts and threads cannot change it. docs/numerics.md describes the use.
#ifndef BACKPROP_SERVER_ENGINE_RANDOM_H_
#define BACKPROP_SERVER_ENGINE_RANDOM_H_

#include <array>
#include <cstdint>
#include <span>

namespace backprop::engine {

// The block function: ten rounds over a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The purpose of a stream. The values are part of the published scheme and never change.
enum class RandomPurpose : uint32_t {
  kInitialWeights = 1,
  kShuffle = 2,
  kGradCheckSample = 3,
  kDropout = 4,
  kValidationSplit = 5,
  kInitialBiases = 6
};

// The random numbers for one seed, purpose and index (a layer, an epoch). Immutable and
// thread-safe.
class RandomStream {
 public:
  RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t index)
      : seed_(seed), purpose_(purpose), index_(index) {}

  // The four words of the block at a position.
  std::array<uint32_t, 4> Block(uint64_t position) const;
  // 64 uniform bits at a position.
  uint64_t Bits(uint64_t position) const;
  // Uniform in [0, 1), a multiple of 2^-53.
  double Uniform(uint64_t position) const;
  // Standard normal (Box and Muller 1958), one number per position.
  double Normal(uint64_t position) const;
  // Uniform in [0, bound), by multiplication; the bias is less than bound/2^64.
  uint64_t Below(uint64_t bound, uint64_t position) const;

 private:
  uint64_t seed_;
  RandomPurpose purpose_;
  uint64_t index_;
};

// Fills `order` with a random permutation of 0 … order.size()−1: a Fisher–Yates shuffle from the
// last element, drawing Below(i + 1) at position i.
void Permutation(const RandomStream& random, std::span<int32_t> order);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_RANDOM_H_
