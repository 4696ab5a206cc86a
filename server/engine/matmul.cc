#include "server/engine/matmul.h"

#include <algorithm>
#include <cstring>

namespace backprop::engine {
namespace {

// A's element (i, p) is a[i·row_stride + p·col_stride]: the same kernel serves A and Aᵀ.
template <class T>
struct Strided {
  const T* a;
  int64_t row_stride;
  int64_t col_stride;
};

template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

// A tile of kRows × kVectors·lanes of C, kept in registers while p runs over the depth.
template <class T, int kBytes, int kRows, int kVectors>
inline void Tile(const Strided<T>& A, int64_t row, const T* B, T* C, int64_t k, int64_t n) {
  using Vector = typename VectorOf<T, kBytes>::type;
  constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));
  Vector sum[kRows][kVectors] = {};
  const T* a = A.a + row * A.row_stride;
  for (int64_t p = 0; p < k; ++p) {
    Vector b[kVectors];
    for (int v = 0; v < kVectors; ++v) std::memcpy(&b[v], B + p * n + v * kLanes, kBytes);
    for (int r = 0; r < kRows; ++r) {
      const T x = a[r * A.row_stride + p * A.col_stride];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x * b[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      std::memcpy(C + (row + r) * n + v * kLanes, &sum[r][v], kBytes);
    }
  }
}

// All rows of a band of columns as wide as the tile.
template <class T, int kBytes, int kVectors>
void Band(const Strided<T>& A, const T* B, T* C, int64_t m, int64_t k, int64_t n) {
  int64_t row = 0;
  for (; row + 4 <= m; row += 4) Tile<T, kBytes, 4, kVectors>(A, row, B, C, k, n);
  for (; row < m; ++row) Tile<T, kBytes, 1, kVectors>(A, row, B, C, k, n);
}

template <class T>
void Product(const Strided<T>& A, const T* B, T* C, int64_t m, int64_t k, int64_t n) {
  constexpr int64_t kLanes = 32 / sizeof(T);
  int64_t col = 0;
  const auto next = [&](auto band, int64_t width) {
    for (; col + width <= n; col += width) band(A, B + col, C + col, m, k, n);
  };
  next(Band<T, 32, 2>, 2 * kLanes);
  next(Band<T, 32, 1>, kLanes);
  next(Band<T, 16, 1>, kLanes / 2);
  if constexpr (sizeof(T) == 4) next(Band<T, 8, 1>, kLanes / 4);
  next(Band<T, sizeof(T), 1>, 1);
}

}  // namespace

template <class T>
void MatMul(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n) {
  Product<T>({A, k, 1}, B, C, m, k, n);
}

template <class T>
void MatMulTransposedA(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n) {
  Product<T>({A, 1, m}, B, C, m, k, n);
}

template <class T>
void Transpose(const T* A, T* B, int64_t rows, int64_t cols) {
  constexpr int64_t kBlock = 16;  // a block of both matrices stays in the first-level cache
  for (int64_t i0 = 0; i0 < rows; i0 += kBlock) {
    for (int64_t j0 = 0; j0 < cols; j0 += kBlock) {
      for (int64_t i = i0; i < std::min(i0 + kBlock, rows); ++i) {
        for (int64_t j = j0; j < std::min(j0 + kBlock, cols); ++j)
          B[j * rows + i] = A[i * cols + j];
      }
    }
  }
}

template void MatMul(const float*, const float*, float*, int64_t, int64_t, int64_t);
template void MatMul(const double*, const double*, double*, int64_t, int64_t, int64_t);
template void MatMulTransposedA(const float*, const float*, float*, int64_t, int64_t, int64_t);
template void MatMulTransposedA(const double*, const double*, double*, int64_t, int64_t, int64_t);
template void Transpose(const float*, float*, int64_t, int64_t);
template void Transpose(const double*, double*, int64_t, int64_t);

}  // namespace backprop::engine
