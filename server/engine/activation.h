// Activation functions and their derivatives.
#ifndef BACKPROP_SERVER_ENGINE_ACTIVATION_H_
#define BACKPROP_SERVER_ENGINE_ACTIVATION_H_

#include <span>

#include "server/engine/spec.h"

namespace backprop::engine {

// Sets a = f(z) elementwise, where f is the activation of `layer`. `a` and `z` have the same size
// and may be the same memory. The result for an element does not depend on its position.
template <class T>
void Activate(const LayerSpec& layer, std::span<const T> z, std::span<T> a);

// Whether ActivateBackward() reads z. If not, it reads only a, and a may overwrite z.
constexpr bool NeedsZ(const LayerSpec& layer) {
  switch (layer.activation) {
    case Activation::kElu:
    case Activation::kGelu:
    case Activation::kSilu:
    case Activation::kSoftplus:
      return true;
    default:
      return false;
  }
}

// Sets dz = da ⊙ f′(z) in place: `dz` holds da on entry. `a` is f(z). `z` is read only if
// NeedsZ(layer), `a` only if not.
template <class T>
void ActivateBackward(const LayerSpec& layer, std::span<const T> z, std::span<const T> a,
                      std::span<T> dz);

// Whether f has a kink at 0. Finite differences across a kink do not estimate the derivative.
constexpr bool HasKink(const LayerSpec& layer) {
  switch (layer.activation) {
    case Activation::kRelu:
    case Activation::kLeakyRelu:
      return true;
    case Activation::kElu:
      return layer.alpha != 1;
    default:
      return false;
  }
}

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_ACTIVATION_H_
