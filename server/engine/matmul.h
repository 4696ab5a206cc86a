// Products of row-major, dense matrices. Small ones by tiles of our own, large ones by a library;
// path.h draws the line.
#ifndef BACKPROP_SERVER_ENGINE_MATMUL_H_
#define BACKPROP_SERVER_ENGINE_MATMUL_H_

#include <cstdint>

namespace backprop::engine {

// C = A·B + b: (m, k)·(k, n) + (n) → (m, n); b is added to every row.
template <class T>
void MatMulBias(const T* A, const T* B, const T* b, T* C, int64_t m, int64_t k, int64_t n);

// C = Aᵀ·B: (k, m)ᵀ·(k, n) → (m, n).
template <class T>
void MatMulTransposedA(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n);

// C = A·Bᵀ: (m, k)·(n, k)ᵀ → (m, n). `scratch` has room for TransposeScratch(k, n) elements.
template <class T>
void MatMulTransposedB(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n, T* scratch);

// Elements that transposing a (k, n) matrix of a product of our own takes; none where a library
// takes every product with it.
int64_t TransposeScratch(int64_t k, int64_t n);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_MATMUL_H_
