// Dense layers of narrow networks in feature-major layout: feature j of all rows starts at
// j·stride, so that a vector holds one feature of several rows. `stride` is a multiple of kLanes<T>
// and at least n. The padding after the n rows may hold any values; they do not affect a result.
#ifndef BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_
#define BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_

#include <cstdint>

#include "server/engine/network.h"

namespace backprop::engine {

// Sets X (d, stride) from x (n, d), row-major. Padding becomes 0.
template <class T>
void ToFeatureMajor(const T* x, int64_t n, int64_t d, int64_t stride, T* X);

// Sets z (n, k), row-major, from Z (k, stride).
template <class T>
void ToRowMajor(const T* Z, int64_t n, int64_t k, int64_t stride, T* z);

// Z = Wᵀ·X + b:  (inputs, units)ᵀ·(inputs, n) + (units) → (units, n). The result for a row does not
// depend on the other rows.
template <class T>
void DenseForward(const LayerPlan& layer, const T* parameters, const T* X, int64_t n,
                  int64_t stride, T* Z);

// dX = W·dZ:  (inputs, units)·(units, n) → (inputs, n).
template <class T>
void DenseBackward(const LayerPlan& layer, const T* parameters, const T* dZ, int64_t n,
                   int64_t stride, T* dX);

// dW = X·dZᵀ:  (inputs, n)·(n, units) → (inputs, units);  db = Σ_rows dZ. Writes to `gradients`,
// laid out like the parameters.
template <class T>
void DenseGradients(const LayerPlan& layer, const T* X, const T* dZ, int64_t n, int64_t stride,
                    T* gradients);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_
