// Matrix products. Every element is one sum over p in ascending order, so a row's result does not
// depend on the rows around it, and no product allocates.
#ifndef BACKPROP_SERVER_ENGINE_MATMUL_H_
#define BACKPROP_SERVER_ENGINE_MATMUL_H_

#include <cstdint>

namespace backprop::engine {

// C = A·B: (m, k)·(k, n) → (m, n), all row-major and dense.
template <class T>
void MatMul(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n);

// C = Aᵀ·B: (k, m)ᵀ·(k, n) → (m, n), all row-major and dense.
template <class T>
void MatMulTransposedA(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n);

// B = Aᵀ: (rows, cols) → (cols, rows).
template <class T>
void Transpose(const T* A, T* B, int64_t rows, int64_t cols);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_MATMUL_H_
