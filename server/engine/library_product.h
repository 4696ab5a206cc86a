// Products of large matrices, computed by libraries: oneDNN in float32, Eigen in float64, and in
// float32 where oneDNN fails.
#ifndef BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_
#define BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_

#include <cstdint>

#include "server/engine/parallel.h"

namespace backprop::engine {

// Sets C = op(A)·op(B), or adds op(A)·op(B) to C if `add`: (m, k)·(k, n) → (m, n). All matrices are
// row-major and dense. op transposes A or B if requested, not both: A is then (k, m), B is (n, k).
// Runs on the calling thread only. The bits of the result depend on the shapes and on the
// instruction set of this build, and in float32 on whether oneDNN could compile a kernel, which
// requires executable memory. During a long float32 product, calls pauses->Pause() repeatedly.
void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const float* A, const float* B, bool add, float* C, Parallel* pauses);
void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const double* A, const double* B, bool add, double* C, Parallel* pauses);

// The columns of C that are computed between two pauses, at most twice as many at the end. The bits
// of a product do not depend on it: oneDNN then sums in the same order
// (tests/engine/library_product_test.cc).
int64_t ColumnsBetweenPauses(bool transpose_b, int64_t m, int64_t k, int64_t n);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_LIBRARY_PRODUCT_H_
