// Products of large matrices, by libraries: oneDNN in float32, Eigen in float64.
#ifndef BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_
#define BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_

#include <cstdint>

namespace backprop::engine {

// C = op(A)·op(B), or C + op(A)·op(B) if `add`: (m, k)·(k, n) → (m, n), all row-major and dense; op
// transposes where asked to: A is then (k, m), B is (n, k). On the calling thread alone. The bits
// depend on the shapes and on this build's instruction set.
void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const float* A, const float* B, bool add, float* C);
void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const double* A, const double* B, bool add, double* C);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_
