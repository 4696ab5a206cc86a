// The activations, each next to its derivative.
#ifndef BACKPROP_SERVER_ENGINE_ACTIVATION_H_
#define BACKPROP_SERVER_ENGINE_ACTIVATION_H_

#include <span>

#include "server/engine/spec.h"

namespace backprop::engine {

// a = f(z), element by element; f is the layer's. a and z have the same size; a may be z.
// An element's result does not depend on where it lies.
template <class T>
void Activate(const LayerSpec& layer, std::span<const T> z, std::span<T> a);

// Whether backward asks for z itself; else a tells enough and may take z's place.
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

// dz = da ⊙ f′(z), in place: `dz` holds da before and dz after. a = f(z). z is read only where
// NeedsZ(), a only where not.
template <class T>
void ActivateBackward(const LayerSpec& layer, std::span<const T> z, std::span<const T> a,
                      std::span<T> dz);

// Whether f has a kink at 0, where a finite difference says nothing about the derivative.
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
