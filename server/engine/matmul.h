// Products of row-major, dense matrices. Small products use this file's own tiled kernels, large
// ones a library; path.h defines the threshold. Long products call pauses->Pause() repeatedly.
// Thread-safe; each call runs on the calling thread.
#ifndef BACKPROP_SERVER_ENGINE_MATMUL_H_
#define BACKPROP_SERVER_ENGINE_MATMUL_H_

#include <cstdint>

#include "server/engine/parallel.h"

namespace backprop::engine {

// C = A·B + b:  (m, k)·(k, n) + (n) → (m, n). b is added to every row.
template <class T>
void MatMulBias(const T* A, const T* B, const T* b, T* C, int64_t m, int64_t k, int64_t n,
                Parallel* pauses);

// C = Aᵀ·B: (k, m)ᵀ·(k, n) → (m, n).
template <class T>
void MatMulTransposedA(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n,
                       Parallel* pauses);

// C = A·Bᵀ: (m, k)·(n, k)ᵀ → (m, n). `scratch` must have room for TransposeScratch(k, n) elements.
template <class T>
void MatMulTransposedB(const T* A, const T* B, T* C, int64_t m, int64_t k, int64_t n, T* scratch,
                       Parallel* pauses);

// Elements of scratch memory for the transposition of a (k, n) matrix; 0 if every product with it
// is computed by a library.
int64_t TransposeScratch(int64_t k, int64_t n);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_MATMUL_H_
