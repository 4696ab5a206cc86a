#include "server/engine/activation.h"

#include <algorithm>
#include <cmath>

#include "server/engine/sigmoid.h"

namespace backprop::engine {
template <class T>
void Activate(Activation activation, std::span<const T> z, std::span<T> a) {
  switch (activation) {
    case Activation::kIdentity:
      if (a.data() != z.data()) std::copy(z.begin(), z.end(), a.begin());
      return;
    case Activation::kRelu:
      // NaN stays NaN, as it must to be noticed.
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] <= 0 ? T(0) : z[i];
      return;
    case Activation::kTanh:
      for (size_t i = 0; i < z.size(); ++i) a[i] = std::tanh(z[i]);
      return;
    case Activation::kSigmoid:
      for (size_t i = 0; i < z.size(); ++i) a[i] = Sigmoid(z[i]);
      return;
  }
}

template <class T>
void ActivateBackward(Activation activation, std::span<const T> z, std::span<const T> a,
                      std::span<T> dz) {
  switch (activation) {
    case Activation::kIdentity:
      return;
    case Activation::kRelu:
      for (size_t i = 0; i < z.size(); ++i) dz[i] = z[i] > 0 ? dz[i] : T(0);
      return;
    case Activation::kTanh:
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= 1 - a[i] * a[i];
      return;
    case Activation::kSigmoid:
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= a[i] * (1 - a[i]);
      return;
  }
}

template void Activate(Activation, std::span<const float>, std::span<float>);
template void Activate(Activation, std::span<const double>, std::span<double>);
template void ActivateBackward(Activation, std::span<const float>, std::span<const float>,
                               std::span<float>);
template void ActivateBackward(Activation, std::span<const double>, std::span<const double>,
                               std::span<double>);

}  // namespace backprop::engine
