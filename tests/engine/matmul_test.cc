#include "server/engine/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "server/engine/path.h"

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
std::vector<T> Transposed(const std::vector<T>& A, int64_t rows, int64_t cols) {
  std::vector<T> B(A.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      B[static_cast<size_t>(j * rows + i)] = A[static_cast<size_t>(i * cols + j)];
    }
  }
  return B;
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
    const auto A = Random<T>(m * k, 1), B = Random<T>(k * n, 2), b = Random<T>(n, 3);
    const auto At = Transposed(A, m, k), Bt = Transposed(B, k, n);
    std::vector<T> C(static_cast<size_t>(m * n), T(NAN)), D = C, E = C;
    std::vector<T> scratch(static_cast<size_t>(k * n));
    MatMulBias(A.data(), B.data(), b.data(), C.data(), m, k, n, Serial::Get());
    MatMulTransposedA(At.data(), B.data(), D.data(), m, k, n, Serial::Get());
    MatMulTransposedB(A.data(), Bt.data(), E.data(), m, k, n, scratch.data(), Serial::Get());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p) {
          sum += static_cast<double>(A[static_cast<size_t>(i * k + p)]) *
                 static_cast<double>(B[static_cast<size_t>(p * n + j)]);
        }
        const auto at = static_cast<size_t>(i * n + j);
        const auto bound = static_cast<double>(Bound(k));
        ASSERT_NEAR(static_cast<double>(C[at]),
                    sum + static_cast<double>(b[static_cast<size_t>(j)]), bound);
        ASSERT_NEAR(static_cast<double>(D[at]), sum, bound);
        ASSERT_NEAR(static_cast<double>(E[at]), sum, bound);
      }
    }
  }
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(MatMulTest, Types);

TYPED_TEST(MatMulTest, EveryWidthAroundTheVectors) {
  for (int64_t n = 1; n <= 130; ++n) this->Check(5, 7, n);
}

TYPED_TEST(MatMulTest, EveryHeightAroundTheTiles) {
  for (int64_t m = 1; m <= 130; ++m) this->Check(m, 3, 19);
}

TYPED_TEST(MatMulTest, EveryDepth) {
  for (int64_t k = 1; k <= 130; ++k) this->Check(6, k, 10);
  this->Check(3, 2000, 2);
}

// Library products satisfy the same bound, from the smallest that use a library.
TYPED_TEST(MatMulTest, TheLibrariesProducts) {
  ASSERT_FALSE(TakesLibrary(31, 16, 33));
  this->Check(31, 16, 33);
  ASSERT_TRUE(TakesLibrary(32, 16, 32));
  this->Check(32, 16, 32);
  for (int64_t n : {63, 64, 65, 130}) this->Check(n - 1, n, n + 1);
  this->Check(1, 300, 77);
  this->Check(300, 77, 1);
  this->Check(2, 2000, 65);
}

// Memory that starts at any element, as it may in a product.
TYPED_TEST(MatMulTest, AlignmentDoesNotMatter) {
  const int64_t m = 6, k = 9, n = 21;
  const auto A = Random<TypeParam>(m * k, 3), B = Random<TypeParam>(k * n, 4);
  const auto b = Random<TypeParam>(n, 5);
  std::vector<TypeParam> aligned(static_cast<size_t>(m * n)), moved(aligned.size() + 1);
  MatMulBias(A.data(), B.data(), b.data(), aligned.data(), m, k, n, Serial::Get());
  auto A1 = A, B1 = B;
  A1.insert(A1.begin(), 0);
  B1.insert(B1.begin(), 0);
  MatMulBias(A1.data() + 1, B1.data() + 1, b.data(), moved.data() + 1, m, k, n, Serial::Get());
  moved.erase(moved.begin());
  EXPECT_EQ(aligned, moved);
}

TYPED_TEST(MatMulTest, ARowDoesNotDependOnTheRowsAroundIt) {
  const int64_t m = 11, k = 29, n = 23;
  const auto A = Random<TypeParam>(m * k, 3), B = Random<TypeParam>(k * n, 4);
  const auto b = Random<TypeParam>(n, 5);
  std::vector<TypeParam> all(static_cast<size_t>(m * n)), one(static_cast<size_t>(n));
  MatMulBias(A.data(), B.data(), b.data(), all.data(), m, k, n, Serial::Get());
  for (int64_t i = 0; i < m; ++i) {
    MatMulBias(A.data() + i * k, B.data(), b.data(), one.data(), 1, k, n, Serial::Get());
    for (int64_t j = 0; j < n; ++j) {
      EXPECT_EQ(one[static_cast<size_t>(j)], all[static_cast<size_t>(i * n + j)]);
    }
  }
}

TYPED_TEST(MatMulTest, NotANumberIsNotHidden) {
  for (int64_t n : {2, 200}) {  // by tiles and by a library
    const int64_t k = 100;
    std::vector<TypeParam> A(static_cast<size_t>(k), 0), b(static_cast<size_t>(n), 0), C = b;
    std::vector<TypeParam> B(static_cast<size_t>(k * n), 1);
    A[50] = TypeParam(NAN);
    MatMulBias(A.data(), B.data(), b.data(), C.data(), 1, k, n, Serial::Get());
    for (TypeParam c : C) EXPECT_TRUE(std::isnan(c));
    A[50] = std::numeric_limits<TypeParam>::infinity();
    MatMulBias(A.data(), B.data(), b.data(), C.data(), 1, k, n, Serial::Get());
    for (TypeParam c : C) EXPECT_TRUE(std::isinf(c));
  }
}

}  // namespace
}  // namespace backprop::engine
