#include "server/engine/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace backprop::engine {
namespace {

using Block = std::array<uint32_t, 4>;

// The known answers that Random123 publishes for philox4x32-10 (kat_vectors).
TEST(RandomTest, PhiloxGivesThePublishedAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, EveryCoordinateOfADrawMatters) {
  const RandomStream base(1, RandomPurpose::kShuffle, 2);
  EXPECT_EQ(base.Bits(3), RandomStream(1, RandomPurpose::kShuffle, 2).Bits(3));
  EXPECT_NE(base.Bits(3), base.Bits(4));
  EXPECT_NE(base.Bits(3), base.Bits(3 + (uint64_t{1} << 32)));
  EXPECT_NE(base.Bits(3), RandomStream(2, RandomPurpose::kShuffle, 2).Bits(3));
  EXPECT_NE(base.Bits(3),
            RandomStream(1 + (uint64_t{1} << 32), RandomPurpose::kShuffle, 2).Bits(3));
  EXPECT_NE(base.Bits(3), RandomStream(1, RandomPurpose::kInitialWeights, 2).Bits(3));
  EXPECT_NE(base.Bits(3), RandomStream(1, RandomPurpose::kShuffle, 5).Bits(3));
  EXPECT_NE(base.Bits(3),
            RandomStream(1, RandomPurpose::kShuffle, 2 + (uint64_t{1} << 32)).Bits(3));
}

TEST(RandomTest, UniformAndNormalHaveTheirMoments) {
  const RandomStream random(7, RandomPurpose::kInitialWeights, 0);
  constexpr int kDraws = 100000;
  double uniform_sum = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = random.Uniform(i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    uniform_sum += u;
    const double z = random.Normal(i);
    normal_sum += z;
    normal_squares += z * z;
    normal_fourth += z * z * z * z;
  }
  EXPECT_NEAR(uniform_sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(normal_sum / kDraws, 0, 0.015);
  EXPECT_NEAR(normal_squares / kDraws, 1, 0.02);
  EXPECT_NEAR(normal_fourth / kDraws, 3, 0.15);
}

TEST(RandomTest, BelowCoversItsRangeEvenly) {
  const RandomStream random(7, RandomPurpose::kShuffle, 0);
  std::vector<int> seen(10, 0);
  for (uint64_t i = 0; i < 10000; ++i) ++seen.at(random.Below(10, i));
  for (int count : seen) EXPECT_NEAR(count, 1000, 150);
}

TEST(RandomTest, PermutationHoldsEveryIndexOnceAndMoves) {
  for (size_t size : {1U, 2U, 3U, 100U}) {
    std::vector<int32_t> order(size);
    Permutation(RandomStream(1, RandomPurpose::kShuffle, 9), order);
    std::vector<int32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    std::vector<int32_t> expected(size);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(sorted, expected);
    if (size == 100) EXPECT_NE(order, expected);
  }
}

}  // namespace
}  // namespace backprop::engine
