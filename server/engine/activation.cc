#include "server/engine/activation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "server/engine/sigmoid.h"

namespace backprop::engine {
namespace {

// Φ, the distribution function of the standard normal. erfc keeps the digits of its lower tail.
template <class T>
T NormalCdf(T z) {
  return T(0.5) * std::erfc(-z * T(1 / std::numbers::sqrt2));
}

// φ = Φ′
template <class T>
T NormalPdf(T z) {
  return T(0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2) * std::exp(T(-0.5) * z * z);
}

}  // namespace

// NaN stays NaN, as it must to be noticed.
template <class T>
void Activate(const LayerSpec& layer, std::span<const T> z, std::span<T> a) {
  switch (layer.activation) {
    case Activation::kIdentity:
      if (a.data() != z.data()) std::copy(z.begin(), z.end(), a.begin());
      return;
    case Activation::kRelu:
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] <= 0 ? T(0) : z[i];
      return;
    case Activation::kTanh:
      for (size_t i = 0; i < z.size(); ++i) a[i] = std::tanh(z[i]);
      return;
    case Activation::kSigmoid:
      for (size_t i = 0; i < z.size(); ++i) a[i] = Sigmoid(z[i]);
      return;
    case Activation::kLeakyRelu: {
      const T slope = static_cast<T>(layer.negative_slope);
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] > 0 ? z[i] : slope * z[i];
      return;
    }
    case Activation::kElu: {
      const T alpha = static_cast<T>(layer.alpha);
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] > 0 ? z[i] : alpha * std::expm1(z[i]);
      return;
    }
    case Activation::kGelu:
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] * NormalCdf(z[i]);
      return;
    case Activation::kSilu:
      for (size_t i = 0; i < z.size(); ++i) a[i] = z[i] * Sigmoid(z[i]);
      return;
    case Activation::kSoftplus:
      // log(1 + e^z), without overflow.
      for (size_t i = 0; i < z.size(); ++i) {
        a[i] = (z[i] <= 0 ? T(0) : z[i]) + std::log1p(std::exp(-std::abs(z[i])));
      }
      return;
  }
}

template <class T>
void ActivateBackward(const LayerSpec& layer, std::span<const T> z, std::span<const T> a,
                      std::span<T> dz) {
  switch (layer.activation) {
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
    case Activation::kLeakyRelu: {
      const T slope = static_cast<T>(layer.negative_slope);
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= z[i] > 0 ? T(1) : slope;
      return;
    }
    case Activation::kElu: {
      const T alpha = static_cast<T>(layer.alpha);
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= z[i] > 0 ? T(1) : alpha * std::exp(z[i]);
      return;
    }
    case Activation::kGelu:
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= NormalCdf(z[i]) + z[i] * NormalPdf(z[i]);
      return;
    case Activation::kSilu:
      for (size_t i = 0; i < z.size(); ++i) {
        const T s = Sigmoid(z[i]);
        dz[i] *= s * (1 + z[i] * (1 - s));
      }
      return;
    case Activation::kSoftplus:
      for (size_t i = 0; i < z.size(); ++i) dz[i] *= Sigmoid(z[i]);
      return;
  }
}

template void Activate(const LayerSpec&, std::span<const float>, std::span<float>);
template void Activate(const LayerSpec&, std::span<const double>, std::span<double>);
template void ActivateBackward(const LayerSpec&, std::span<const float>, std::span<const float>,
                               std::span<float>);
template void ActivateBackward(const LayerSpec&, std::span<const double>, std::span<const double>,
                               std::span<double>);

}  // namespace backprop::engine
