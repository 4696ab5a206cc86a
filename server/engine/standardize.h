// Input standardisation: scikit-learn's StandardScaler, with sample weights.
#ifndef BACKPROP_SERVER_ENGINE_STANDARDIZE_H_
#define BACKPROP_SERVER_ENGINE_STANDARDIZE_H_

#include <cstdint>
#include <memory>

#include "server/engine/data.h"
#include "server/engine/network.h"

namespace backprop::engine {

// Returns the weighted mean and standard deviation (divided by Σ weights, not n − 1) of each
// feature, in float64, with two passes over the rows in order. A feature that is constant within
// rounding gets std 1. Returns null if a result is not finite.
std::shared_ptr<const Standardization> FitStandardization(const RowSet& rows);

// Sets out = (x − mean) / std, (n, d), computed in float64 and rounded to T.
template <class T>
void ApplyStandardization(const Standardization& standardization, const T* x, int64_t n, T* out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_STANDARDIZE_H_
