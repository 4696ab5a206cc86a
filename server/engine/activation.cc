#include "server/engine/activation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "server/engine/vector_math.h"

namespace backprop::engine {
namespace {

// Φ, the standard normal distribution function. erfc keeps the digits of the lower tail.
template <class T>
Vec<T> NormalCdf(Vec<T> z) {
  Vec<T> cdf;
  for (int64_t l = 0; l < kLanes<T>; ++l) {
    cdf[l] = T(0.5) * std::erfc(-z[l] * T(1 / std::numbers::sqrt2));
  }
  return cdf;
}

// φ = Φ′
template <class T>
Vec<T> NormalPdf(Vec<T> z) {
  return T(0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2) *
         ExpNonPositive<T>(T(-0.5) * z * z);
}

// Computes out = f(in…) a vector at a time. Lanes of the last vector past the end are not written.
template <class T, class F, class... In>
void Map(int64_t count, T* out, const F& f, const In*... in) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) Store<T>(out + i, f(Load<T>(in + i)...));
  if (i < count) StorePart<T>(out + i, f(LoadPart<T>(in + i, count - i)...), count - i);
}

}  // namespace

// NaN gives NaN, so that it is detected later.
template <class T>
void Activate(const LayerSpec& layer, std::span<const T> z, std::span<T> a) {
  using V = Vec<T>;
  const auto map = [&](const auto& f) {
    Map<T>(static_cast<int64_t>(z.size()), a.data(), f, z.data());
  };
  switch (layer.activation) {
    case Activation::kIdentity:
      if (a.data() != z.data()) std::copy(z.begin(), z.end(), a.begin());
      return;
    case Activation::kRelu:
      return map([](V x) { return x <= 0 ? V{} : x; });
    case Activation::kTanh:
      return map([](V x) { return Tanh<T>(x); });
    case Activation::kSigmoid:
      return map([](V x) { return Sigmoid<T>(x); });
    case Activation::kLeakyRelu: {
      const T slope = static_cast<T>(layer.negative_slope);
      return map([=](V x) { return x > 0 ? x : slope * x; });
    }
    case Activation::kElu: {
      const T alpha = static_cast<T>(layer.alpha);
      // The exponential is not used for x > 0.
      return map([=](V x) { return x > 0 ? x : alpha * Expm1NonPositive<T>(x); });
    }
    case Activation::kGelu:
      return map([](V x) { return x * NormalCdf<T>(x); });
    case Activation::kSilu:
      return map([](V x) { return x * Sigmoid<T>(x); });
    case Activation::kSoftplus:
      // log(1 + e^z), without overflow.
      return map(
          [](V x) { return (x <= 0 ? V{} : x) + Log1pOfUnit<T>(ExpNonPositive<T>(-Abs<T>(x))); });
  }
}

template <class T>
void ActivateBackward(const LayerSpec& layer, std::span<const T> z, std::span<const T> a,
                      std::span<T> dz) {
  using V = Vec<T>;
  const auto count = static_cast<int64_t>(dz.size());
  const auto with_z = [&](const auto& f) { Map<T>(count, dz.data(), f, dz.data(), z.data()); };
  const auto with_a = [&](const auto& f) { Map<T>(count, dz.data(), f, dz.data(), a.data()); };
  switch (layer.activation) {
    case Activation::kIdentity:
      return;
    case Activation::kRelu:
      return with_a([](V da, V y) { return y > 0 ? da : V{}; });
    case Activation::kTanh:
      return with_a([](V da, V y) { return da * (1 - y * y); });
    case Activation::kSigmoid:
      return with_a([](V da, V y) { return da * (y * (1 - y)); });
    case Activation::kLeakyRelu: {
      const T slope = static_cast<T>(layer.negative_slope);
      return with_a([=](V da, V y) { return y > 0 ? da : slope * da; });
    }
    case Activation::kElu: {
      const T alpha = static_cast<T>(layer.alpha);
      return with_z([=](V da, V x) { return x > 0 ? da : da * (alpha * ExpNonPositive<T>(x)); });
    }
    case Activation::kGelu:
      return with_z([](V da, V x) { return da * (NormalCdf<T>(x) + x * NormalPdf<T>(x)); });
    case Activation::kSilu:
      return with_z([](V da, V x) {
        const V s = Sigmoid<T>(x);
        return da * (s * (1 + x * (1 - s)));
      });
    case Activation::kSoftplus:
      return with_z([](V da, V x) { return da * Sigmoid<T>(x); });
  }
}

template void Activate(const LayerSpec&, std::span<const float>, std::span<float>);
template void Activate(const LayerSpec&, std::span<const double>, std::span<double>);
template void ActivateBackward(const LayerSpec&, std::span<const float>, std::span<const float>,
                               std::span<float>);
template void ActivateBackward(const LayerSpec&, std::span<const double>, std::span<const double>,
                               std::span<double>);

}  // namespace backprop::engine
