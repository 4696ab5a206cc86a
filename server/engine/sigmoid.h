// The logistic function, for the activation and for binary cross-entropy.
#ifndef BACKPROP_SERVER_ENGINE_SIGMOID_H_
#define BACKPROP_SERVER_ENGINE_SIGMOID_H_

#include <cmath>

namespace backprop::engine {

// 1 / (1 + e^−z), without overflow for any z.
template <class T>
T Sigmoid(T z) {
  const T e = std::exp(-std::abs(z));
  return z >= 0 ? 1 / (1 + e) : e / (1 + e);
}

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SIGMOID_H_
