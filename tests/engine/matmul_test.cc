#include "server/engine/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace backprop::engine {
namespace {

template <class T>
std::vector<T> Random(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<T>(static_cast<double>(random()) / 2147483648.0 - 1));
  }
  return values;
}

template <class T>
class MatMulTest : public testing::Test {
 protected:
  // |error| of a sum of k products of numbers below 1 is within about k roundings.
  static T Bound(int64_t k) {
    return std::numeric_limits<T>::epsilon() * static_cast<T>(k + 1) * 2;
  }

  void Check(int64_t m, int64_t k, int64_t n) {
    SCOPED_TRACE(testing::Message() << m << "×" << k << "×" << n);
    const auto A = Random<T>(m * k, 1), B = Random<T>(k * n, 2);
    std::vector<T> At(A.size()), C(static_cast<size_t>(m * n), T(NAN)), D = C;
    Transpose(A.data(), At.data(), m, k);
    MatMul(A.data(), B.data(), C.data(), m, k, n);
    MatMulTransposedA(At.data(), B.data(), D.data(), m, k, n);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p) {
          sum += static_cast<double>(A[static_cast<size_t>(i * k + p)]) *
                 static_cast<double>(B[static_cast<size_t>(p * n + j)]);
        }
        const auto at = static_cast<size_t>(i * n + j);
        ASSERT_NEAR(static_cast<double>(C[at]), sum, static_cast<double>(Bound(k)));
        ASSERT_EQ(C[at], D[at]) << "the transposed form sums in the same order";
      }
    }
  }
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(MatMulTest, Types);

TYPED_TEST(MatMulTest, EveryWidthAroundTheVectors) {
  for (int64_t n = 1; n <= 70; ++n) this->Check(5, 7, n);
}

TYPED_TEST(MatMulTest, EveryHeightAroundTheTiles) {
  for (int64_t m = 1; m <= 18; ++m) this->Check(m, 3, 19);
}

TYPED_TEST(MatMulTest, EveryDepth) {
  for (int64_t k = 1; k <= 33; ++k) this->Check(6, k, 10);
  this->Check(3, 2000, 5);
}

TYPED_TEST(MatMulTest, ARowDoesNotDependOnTheRowsAroundIt) {
  const int64_t m = 11, k = 29, n = 23;
  const auto A = Random<TypeParam>(m * k, 3), B = Random<TypeParam>(k * n, 4);
  std::vector<TypeParam> all(static_cast<size_t>(m * n)), one(static_cast<size_t>(n));
  MatMul(A.data(), B.data(), all.data(), m, k, n);
  for (int64_t i = 0; i < m; ++i) {
    MatMul(A.data() + i * k, B.data(), one.data(), 1, k, n);
    for (int64_t j = 0; j < n; ++j) {
      EXPECT_EQ(one[static_cast<size_t>(j)], all[static_cast<size_t>(i * n + j)]);
    }
  }
}

TYPED_TEST(MatMulTest, NotANumberIsNotHidden) {
  std::vector<TypeParam> A = {0, TypeParam(NAN)}, B = {1, 2, 3, 4}, C(2);
  MatMul(A.data(), B.data(), C.data(), 1, 2, 2);
  EXPECT_TRUE(std::isnan(C[0]) && std::isnan(C[1]));
}

}  // namespace
}  // namespace backprop::engine
