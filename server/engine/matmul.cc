#include "server/engine/matmul.h"

#include <algorithm>
#include <cstring>

#include "server/engine/library_product.h"
#include "server/engine/path.h"
#include "server/engine/vector.h"

namespace backprop::engine {
namespace {

// Element (i, p) of A is a[i·row_stride + p·col_stride], so that one kernel serves A and Aᵀ.
template <class T>
struct Strided {
  const T* a;
  int64_t row_stride;
  int64_t col_stride;
};

// A tile of kRows × kVectors·lanes of C, kept in registers while p iterates over the depth. Every
// element is a sum over p in ascending order that starts with the bias.
template <class T, int kBytes, int kRows, int kVectors>
inline void Tile(const Strided<T>& A, int64_t row, const T* B, const T* bias, T* C, int64_t k,
                 int64_t n) {
  using Vector = typename VectorOf<T, kBytes>::type;
  constexpr int kLanesHere = kBytes / static_cast<int>(sizeof(T));
  Vector sum[kRows][kVectors] = {};
  if (bias != nullptr) {
    for (int v = 0; v < kVectors; ++v) {
      std::memcpy(&sum[0][v], bias + v * kLanesHere, kBytes);
      for (int r = 1; r < kRows; ++r) sum[r][v] = sum[0][v];
    }
  }
  const T* a = A.a + row * A.row_stride;
  for (int64_t p = 0; p < k; ++p) {
    Vector b[kVectors];
    for (int v = 0; v < kVectors; ++v) std::memcpy(&b[v], B + p * n + v * kLanesHere, kBytes);
    for (int r = 0; r < kRows; ++r) {
      const T x = a[r * A.row_stride + p * A.col_stride];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x * b[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      std::memcpy(C + (row + r) * n + v * kLanesHere, &sum[r][v], kBytes);
    }
  }
}

// Computes all rows of a band of columns of the tile's width.
template <class T, int kBytes, int kVectors>
void Band(const Strided<T>& A, const T* B, const T* bias, T* C, int64_t m, int64_t k, int64_t n) {
  int64_t row = 0;
  for (; row + 4 <= m; row += 4) Tile<T, kBytes, 4, kVectors>(A, row, B, bias, C, k, n);
  for (; row < m; ++row) Tile<T, kBytes, 1, kVectors>(A, row, B, bias, C, k, n);
}

// Computes the columns from `col` on with vectors of kBytes, then of half that size.
template <class T, int kBytes, int kVectors>
void Bands(const Strided<T>& A, const T* B, const T* bias, T* C, int64_t m, int64_t k, int64_t n,
           int64_t col) {
  constexpr int64_t kWidth = kBytes / static_cast<int64_t>(sizeof(T)) * kVectors;
  for (; col + kWidth <= n; col += kWidth) {
    Band<T, kBytes, kVectors>(A, B + col, bias == nullptr ? nullptr : bias + col, C + col, m, k, n);
  }
  if constexpr (kVectors > 1) {
    Bands<T, kBytes, kVectors / 2>(A, B, bias, C, m, k, n, col);
  } else if constexpr (kBytes > sizeof(T)) {
    Bands<T, kBytes / 2, 1>(A, B, bias, C, m, k, n, col);
  }
}

template <class T>
void Product(const Strided<T>& A, const T* B, const T* bias, T* C, int64_t m, int64_t k,
             int64_t n) {
  Bands<T, kVectorBytes, 2>(A, B, bias, C, m, k, n, 0);
}

// B = Aᵀ: (rows, cols) → (cols, rows).
template <class T>
void Transpose(const T* A, T* B, int64_t rows, int64_t cols) {
  constexpr int64_t kBlock = 16;  // a block of both matrices stays in the first-level cache
  for (int64_t i0 = 0; i0 < rows; i0 += kBlock) {
    for (int64_t j0 = 0; j0 < cols; j0 += kBlock) {
      for (int64_t i = i0; i < std::min(i0 + kBlock, rows); ++i) {
        for (int64_t j = j0; j < std::min(j0 + kBlock, cols); ++j) {
          B[j * rows + i] = A[i * cols + j];
        }
      }
    }
  }
}

}  // namespace

template <class T>
void MatMulBias(const T* A, const T* B, const T* b, T* C, int64_t m, int64_t k, int64_t n,
                Parallel* pauses) {
  if (!TakesLibrary(m, k, n)) return Product<T>({A, k, 1}, B, b, C, m, k, n);
  for (int64_t i = 0; i < m; ++i) std::copy_n(b, n, C + i * n);
  LibraryProduct(false, false, m, k, n, A, B, true, C, pauses);
}

template <class T>
void MatMulTransposedA(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n,
                       Parallel* pauses) {
  if (!TakesLibrary(m, k, n)) return Product<T>({A, 1, m}, B, nullptr, C, m, k, n);
  LibraryProduct(true, false, m, k, n, A, B, false, C, pauses);
}

template <class T>
void MatMulTransposedB(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n, T* scratch,
                       Parallel* pauses) {
  if (TakesLibrary(m, k, n)) return LibraryProduct(false, true, m, k, n, A, B, false, C, pauses);
  Transpose(B, scratch, n, k);
  Product<T>({A, k, 1}, scratch, nullptr, C, m, k, n);
}

int64_t TransposeScratch(int64_t k, int64_t n) { return TakesLibrary(1, k, n) ? 0 : k * n; }

template void MatMulBias(const float*, const float*, const float*, float*, int64_t, int64_t,
                         int64_t, Parallel*);
template void MatMulBias(const double*, const double*, const double*, double*, int64_t, int64_t,
                         int64_t, Parallel*);
template void MatMulTransposedA(const float*, const float*, float*, int64_t, int64_t, int64_t,
                                Parallel*);
template void MatMulTransposedA(const double*, const double*, double*, int64_t, int64_t, int64_t,
                                Parallel*);
template void MatMulTransposedB(const float*, const float*, float*, int64_t, int64_t, int64_t,
                                float*, Parallel*);
template void MatMulTransposedB(const double*, const double*, double*, int64_t, int64_t, int64_t,
                                double*, Parallel*);

}  // namespace backprop::engine
