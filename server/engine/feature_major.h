// The layers of narrow networks, feature-major: feature j of the rows lies at j·stride, so that a
// vector holds one feature of many rows. Behind the rows there is room for a whole vector (stride
// is a multiple of kLanes), in which any numbers may stand: none enters a result.
#ifndef BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_
#define BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_

#include <cstdint>

#include "server/engine/network.h"

namespace backprop::engine {

// X (d, stride) from x (n, d), row-major; 0 behind the rows.
template <class T>
void ToFeatureMajor(const T* x, int64_t n, int64_t d, int64_t stride, T* X);

// z (n, k), row-major, from Z (k, stride).
template <class T>
void ToRowMajor(const T* Z, int64_t n, int64_t k, int64_t stride, T* z);

// Z = Wᵀ·X + b:  (inputs, units)ᵀ·(inputs, n) + (units) → (units, n). A row's result does not
// depend on the rows around it.
template <class T>
void DenseForward(const LayerPlan& layer, const T* parameters, const T* X, int64_t n,
                  int64_t stride, T* Z);

// dX = W·dZ:  (inputs, units)·(units, n) → (inputs, n).
template <class T>
void DenseBackward(const LayerPlan& layer, const T* parameters, const T* dZ, int64_t n,
                   int64_t stride, T* dX);

// dW = X·dZᵀ:  (inputs, n)·(n, units) → (inputs, units);  db = Σ_rows dZ. Into `gradients`, laid
// out as the parameters.
template <class T>
void DenseGradients(const LayerPlan& layer, const T* X, const T* dZ, int64_t n, int64_t stride,
                    T* gradients);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_FEATURE_MAJOR_H_
