// The vectorised exp, log, tanh and sigmoid, compared with the C library in the next wider type.
#include "server/engine/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace backprop::engine {
namespace {

template <class T>
struct Function {
  const char* name;
  Vec<T> (*ours)(Vec<T>);
  std::function<long double(long double)> exact;
  T lowest;
  T highest;
  double most_ulps;
};

template <class T>
std::vector<Function<T>> Functions() {
  using F = long double;
  const T lowest = ElementaryConstants<T>::kExpLowest;
  return {
      {"exp", ExpNonPositive<T>, [](F x) { return std::exp(x); }, lowest, 0, 1.5},
      {"expm1", Expm1NonPositive<T>, [](F x) { return std::expm1(x); }, lowest, 0, 2},
      {"log", Log<T>, [](F x) { return std::log(x); }, T(1), T(1e30), 1.5},
      {"log", Log<T>, [](F x) { return std::log(x); }, T(1e-30), T(1), 1.5},
      {"log near 1", Log<T>, [](F x) { return std::log(x); }, T(0.6), T(1.6), 1.5},
      {"log1p", Log1pOfUnit<T>, [](F x) { return std::log1p(x); }, 0, 1, 2},
      {"tanh", Tanh<T>, [](F x) { return std::tanh(x); }, T(-40), T(40), 3},
      {"tanh near 0", Tanh<T>, [](F x) { return std::tanh(x); }, T(-1), T(1), 3},
      {"sigmoid", Sigmoid<T>, [](F x) { return 1 / (1 + std::exp(-x)); }, lowest, -lowest, 3},
  };
}

// |a − exact| in units of the last place of exact, as T has it.
template <class T>
double Ulps(T a, long double exact) {
  const T rounded = static_cast<T>(exact);
  const T size = std::max(std::abs(rounded), std::numeric_limits<T>::min());
  const long double ulp =
      static_cast<long double>(std::nextafter(size, std::numeric_limits<T>::infinity())) - size;
  return static_cast<double>(std::abs(static_cast<long double>(a) - exact) / ulp);
}

template <class T>
class VectorMathTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMathTest, Types);

// Uniform over the range, and over the exponents towards the end nearest to 0.
TYPED_TEST(VectorMathTest, StaysWithinTheDocumentedError) {
  using T = TypeParam;
  std::mt19937_64 random(1);
  for (const Function<T>& f : Functions<T>()) {
    double worst = 0;
    T worst_at = 0;
    std::uniform_real_distribution<T> uniform(f.lowest, f.highest);
    std::uniform_real_distribution<T> exponent(T(-30), 0);
    for (int i = 0; i < 400'000; i += static_cast<int>(kLanes<T>)) {
      Vec<T> x;
      for (int64_t l = 0; l < kLanes<T>; ++l) {
        x[l] = uniform(random);
        if (l % 2 == 1 && f.lowest <= 0 && f.highest >= 0) x[l] *= std::exp2(exponent(random));
      }
      const Vec<T> y = f.ours(x);
      for (int64_t l = 0; l < kLanes<T>; ++l) {
        const double ulps = Ulps<T>(y[l], f.exact(static_cast<long double>(x[l])));
        if (!(ulps <= worst)) {
          worst = ulps;
          worst_at = x[l];
        }
      }
    }
    std::printf("%-12s %zu bits: %.3f ulp at %g\n", f.name, 8 * sizeof(T), worst,
                static_cast<double>(worst_at));
    EXPECT_LE(worst, f.most_ulps) << f.name << " at " << worst_at;
  }
}

TYPED_TEST(VectorMathTest, EndsOfTheRange) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity();
  const auto at = [](Vec<T> (*f)(Vec<T>), T x) { return f(Splat<T>(x))[kLanes<T> - 1]; };
  const T lowest = ElementaryConstants<T>::kExpLowest;
  EXPECT_EQ(at(ExpNonPositive<T>, 0), 1);
  EXPECT_EQ(at(ExpNonPositive<T>, -infinity), 0);
  EXPECT_EQ(at(ExpNonPositive<T>, std::nextafter(lowest, -infinity)), 0);
  EXPECT_GE(at(ExpNonPositive<T>, lowest), std::numeric_limits<T>::min());
  EXPECT_EQ(at(Expm1NonPositive<T>, -infinity), -1);
  EXPECT_EQ(at(Expm1NonPositive<T>, 0), 0);
  EXPECT_EQ(at(Log<T>, 1), 0);
  EXPECT_EQ(at(Log<T>, infinity), infinity);
  EXPECT_EQ(at(Log1pOfUnit<T>, 0), 0);
  EXPECT_EQ(at(Tanh<T>, infinity), 1);
  EXPECT_EQ(at(Tanh<T>, -infinity), -1);
  EXPECT_EQ(at(Tanh<T>, 0), 0);
  EXPECT_EQ(at(Sigmoid<T>, infinity), 1);
  EXPECT_EQ(at(Sigmoid<T>, -infinity), 0);
  EXPECT_EQ(at(Sigmoid<T>, 0), T(0.5));
}

TYPED_TEST(VectorMathTest, NotANumberStays) {
  using T = TypeParam;
  for (auto* f :
       {ExpNonPositive<T>, Expm1NonPositive<T>, Log<T>, Log1pOfUnit<T>, Tanh<T>, Sigmoid<T>}) {
    const Vec<T> y = f(Splat<T>(std::numeric_limits<T>::quiet_NaN()));
    for (int64_t l = 0; l < kLanes<T>; ++l) EXPECT_TRUE(std::isnan(y[l]));
  }
}

TYPED_TEST(VectorMathTest, PartsOfVectors) {
  using T = TypeParam;
  std::vector<T> from(static_cast<size_t>(kLanes<T>) + 1);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<T>(i + 1);
  for (int64_t count = 0; count <= kLanes<T>; ++count) {
    const Vec<T> v = LoadPart<T>(from.data(), count);
    std::vector<T> to(from.size(), T(-1));
    StorePart<T>(to.data(), v, count);
    T sum = 0;
    for (int64_t l = 0; l < kLanes<T>; ++l) {
      EXPECT_EQ(v[l], l < count ? from[static_cast<size_t>(l)] : 0);
      EXPECT_EQ(to[static_cast<size_t>(l)], l < count ? from[static_cast<size_t>(l)] : -1);
      sum += v[l];
    }
    EXPECT_EQ(SumOfLanes<T>(v), sum);
  }
}

}  // namespace
}  // namespace backprop::engine
