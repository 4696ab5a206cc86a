// Variants of seeds, drawn without libFuzzer, so that every build can try them.
#ifndef BACKPROP_TESTS_FUZZ_VARIANTS_H_
#define BACKPROP_TESTS_FUZZ_VARIANTS_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>

#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"

namespace backprop::fuzz {

// Thread-compatible.
class Variants {
 public:
  static constexpr size_t kMostBytes = 65536;  // of a variant

  // `harness` must outlive the object. There must be a seed.
  Variants(const Harness* harness, Seeds seeds, uint32_t seed)
      : harness_(harness), seeds_(std::move(seeds)), seed_(seed) {}

  // Changes one of the seeds a few times. It depends on the seeds, the seed and the number alone.
  std::string Draw(uint32_t number) const;

 private:
  std::string Change(const std::string& input, std::mt19937* random) const;

  const Harness* const harness_;
  const Seeds seeds_;
  const uint32_t seed_;
};

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_VARIANTS_H_
