// Detection of an undeclared big-endian tensor.
#include "server/codec/byte_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/codec/raw_tensor.h"

namespace backprop::codec {
namespace {

template <class T>
std::vector<T> Normal(size_t count, double scale) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> numbers(count);
  for (T& x : numbers) x = static_cast<T>(normal(random));
  return numbers;
}

template <class T>
std::vector<T> Tenths(size_t count) {
  std::vector<T> numbers;
  for (size_t i = 0; i < count; ++i) numbers.push_back(static_cast<T>(i) / T(10));
  return numbers;
}

template <class T>
class LooksBigEndianTest : public testing::Test {
 protected:
  // Exactly one byte order of these numbers is suspicious.
  static void ExpectDetected(const std::vector<T>& numbers) {
    EXPECT_NE(LooksBigEndian(Raw(numbers, true)), "");
    EXPECT_EQ(LooksBigEndian(Raw(numbers, true, v1::BYTE_ORDER_BIG_ENDIAN)), "");
    EXPECT_EQ(LooksBigEndian(Raw(numbers, true, v1::BYTE_ORDER_LITTLE_ENDIAN)), "");
    ExpectNotDetected(numbers);
  }
  static void ExpectNotDetected(const std::vector<T>& numbers) {
    EXPECT_EQ(LooksBigEndian(Raw(numbers, false)), "");
  }
};
using Floats = testing::Types<float, double>;
TYPED_TEST_SUITE(LooksBigEndianTest, Floats);

TYPED_TEST(LooksBigEndianTest, OrdinaryDataIsDetected) {
  using T = TypeParam;
  for (const double scale : {1e-4, 1.0, 1e4}) this->ExpectDetected(Normal<T>(200, scale));
  this->ExpectDetected(Tenths<T>(100));
  this->ExpectDetected({0, 0, 0, 1, 1, 0, 1, 1});  // XOR
  this->ExpectDetected({0, T(-0.0), 0, 1, 1, T(-0.0), 1, 1});
  this->ExpectDetected({T(-0.5), 1, 2, 3});
  std::vector<T> pixels;
  for (int i = 0; i < 784; ++i) pixels.push_back(static_cast<T>(i % 256));
  this->ExpectDetected(pixels);
  std::vector<T> sparse(4000, T(0));
  sparse.insert(sparse.end(), 4, T(1));
  this->ExpectDetected(sparse);
  // Numbers of float32 stored as doubles: their last bytes are 0.
  const auto narrow = Normal<float>(40, 1);
  this->ExpectDetected(std::vector<T>(narrow.begin(), narrow.end()));
}

TYPED_TEST(LooksBigEndianTest, TooFewNumbersAreNotJudged) {
  using T = TypeParam;
  const auto three = Raw<T>({0, 1, 1, 1}, true);
  EXPECT_EQ(LooksBigEndian(three), "");
  const auto numbers = Normal<T>(15, 1);
  EXPECT_EQ(LooksBigEndian(Raw(numbers, true)), "");
  EXPECT_NE(LooksBigEndian(Raw(Normal<T>(16, 1), true)), "");
}

// Unusual little-endian numbers that are correct.
TYPED_TEST(LooksBigEndianTest, UnusualLittleEndianDataIsAccepted) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  this->ExpectNotDetected(std::vector<T>(100, T(0)));
  for (const T x :
       {T(1e-45), T(1e-44), T(1e-43), T(1e-42), T(1e-41), T(1e-40), T(1e-39), T(1e-38), T(1e-30),
        T(1e30), T(3e38), Limits::min(), Limits::denorm_min(), Limits::max(), Limits::epsilon()}) {
    this->ExpectNotDetected(std::vector<T>(100, x));
    std::vector<T> around;
    for (int i = 1; i <= 100; ++i) around.push_back(x / static_cast<T>(i));
    this->ExpectNotDetected(around);
  }
  // Counters and clocks, whose last bytes take all values.
  for (const double from : {1e6, 1e7, 1.6e7, 1e9, 1.7e9, 1e12, 1e15}) {
    for (int start = 0; start < 256; ++start) {
      std::vector<T> counter;
      for (int i = 0; i < 20; ++i) counter.push_back(static_cast<T>(from + start + i));
      this->ExpectNotDetected(counter);
    }
  }
  // Every scale, and all scales together.
  std::vector<T> all;
  for (int exponent = -140; exponent <= 120; exponent += 4) {
    const auto numbers = Normal<T>(100, std::ldexp(1.0, exponent));
    this->ExpectNotDetected(numbers);
    all.insert(all.end(), numbers.begin(), numbers.begin() + 16);
  }
  this->ExpectNotDetected(all);
  // Denormals of every kind; a decaying weight passes through the first ones.
  std::mt19937_64 random(1);
  for (int round = 0; round < 1000; ++round) {
    std::vector<T> denormals;
    for (int i = 0; i < 32; ++i) {
      denormals.push_back(Limits::denorm_min() * static_cast<T>(random() % (1U << (round % 24))));
    }
    this->ExpectNotDetected(denormals);
  }
}

TEST(LooksBigEndian, Classes) {
  for (const bool wide : {false, true}) {
    const auto detected = [&](const std::vector<int64_t>& labels, bool big) {
      const std::vector<int32_t> narrow(labels.begin(), labels.end());
      return LooksBigEndian(wide ? Raw(labels, big) : Raw(narrow, big)) != "";
    };
    EXPECT_TRUE(detected({0, 1, 1, 0}, true));
    EXPECT_TRUE(detected({0, 9, 300}, true));
    EXPECT_FALSE(detected({0, 0}, true));
    EXPECT_FALSE(detected({0, 1, 1, 0}, false));
    EXPECT_FALSE(detected({65536, 65537}, false));
    EXPECT_FALSE(detected({1, 256, 65535}, false));
  }
}

}  // namespace
}  // namespace backprop::codec
