#include "server/engine/loss.h"

#include <algorithm>
#include <cmath>

#include "server/engine/sigmoid.h"

namespace backprop::engine {
namespace {

// For a row of k logits with targets y that sum to s (one-hot: s = 1):
//   loss = −Σ_j y_j·log softmax(z)_j = s·log Σ_j e^(z_j − m) − Σ_j y_j·(z_j − m),  m = max z
//   dz   = (s·softmax(z) − y) / n
template <class T>
LossResult SoftmaxCrossEntropy(const LossInput<T>& in, T* dz) {
  LossResult result;
  const T n = static_cast<T>(in.n);
  const int64_t k = in.k;
  for (int64_t i = 0; i < in.n; ++i) {
    const T* z = in.z + i * k;
    const int64_t best = std::max_element(z, z + k) - z;
    const T m = z[best];
    T sum_exp = 0;
    for (int64_t j = 0; j < k; ++j) sum_exp += std::exp(z[j] - m);
    const T log_sum = std::log(sum_exp);
    if (in.classes != nullptr) {
      const int64_t y = in.classes[i];
      result.sum += static_cast<double>(log_sum - (z[y] - m));
      result.correct += best == y;
      if (dz == nullptr) continue;
      T* d = dz + i * k;
      for (int64_t j = 0; j < k; ++j) d[j] = std::exp(z[j] - m) / sum_exp / n;
      d[y] -= 1 / n;
    } else {
      const T* y = in.targets + i * k;
      T s = 0;
      T dot = 0;
      for (int64_t j = 0; j < k; ++j) {
        s += y[j];
        dot += y[j] * (z[j] - m);
      }
      result.sum += static_cast<double>(s * log_sum - dot);
      result.correct += best == std::max_element(y, y + k) - y;
      if (dz == nullptr) continue;
      T* d = dz + i * k;
      for (int64_t j = 0; j < k; ++j) d[j] = (s * std::exp(z[j] - m) / sum_exp - y[j]) / n;
    }
  }
  return result;
}

// For each element: loss = max(z, 0) − z·y + log(1 + e^−|z|); dz = (σ(z) − y) / (n·k).
template <class T>
LossResult BinaryCrossEntropy(const LossInput<T>& in, T* dz) {
  LossResult result;
  const T k_elements = static_cast<T>(in.k);
  const T n = static_cast<T>(in.n);
  for (int64_t i = 0; i < in.n; ++i) {
    T row = 0;
    bool all_right = true;
    for (int64_t j = 0; j < in.k; ++j) {
      const int64_t at = i * in.k + j;
      const T z = in.z[at];
      const T y = in.classes != nullptr ? static_cast<T>(in.classes[i]) : in.targets[at];
      row += std::max(z, T(0)) - z * y + std::log1p(std::exp(-std::abs(z)));
      all_right = all_right && (z > 0) == (y > T(0.5));
      if (dz != nullptr) dz[at] = (Sigmoid(z) - y) / k_elements / n;
    }
    result.sum += static_cast<double>(row / k_elements);
    result.correct += all_right;
  }
  return result;
}

// For each element: loss = (z − y)²; dz = 2·(z − y) / (n·k).
template <class T>
LossResult MeanSquaredError(const LossInput<T>& in, T* dz) {
  LossResult result;
  const T k_elements = static_cast<T>(in.k);
  const T n = static_cast<T>(in.n);
  for (int64_t i = 0; i < in.n; ++i) {
    T row = 0;
    for (int64_t j = 0; j < in.k; ++j) {
      const int64_t at = i * in.k + j;
      const T difference = in.z[at] - in.targets[at];
      row += difference * difference;
      if (dz != nullptr) dz[at] = 2 * difference / k_elements / n;
    }
    result.sum += static_cast<double>(row / k_elements);
  }
  return result;
}

}  // namespace

template <class T>
LossResult ComputeLoss(Loss loss, const LossInput<T>& in, T* dz) {
  switch (loss) {
    case Loss::kSoftmaxCrossEntropy:
      return SoftmaxCrossEntropy(in, dz);
    case Loss::kBinaryCrossEntropy:
      return BinaryCrossEntropy(in, dz);
    case Loss::kMeanSquaredError:
      return MeanSquaredError(in, dz);
  }
  return {};
}

template <class T>
void Probabilities(Loss loss, const T* z, T* p, int64_t n, int64_t k) {
  if (loss == Loss::kBinaryCrossEntropy) {
    for (int64_t i = 0; i < n * k; ++i) p[i] = Sigmoid(z[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i, z += k, p += k) {
    const T m = *std::max_element(z, z + k);
    T sum_exp = 0;
    for (int64_t j = 0; j < k; ++j) {
      p[j] = std::exp(z[j] - m);
      sum_exp += p[j];
    }
    for (int64_t j = 0; j < k; ++j) p[j] /= sum_exp;
  }
}

template <class T>
int32_t PredictedClass(Loss loss, const T* z, int64_t k) {
  if (loss == Loss::kBinaryCrossEntropy) return z[0] > 0 ? 1 : 0;
  return static_cast<int32_t>(std::max_element(z, z + k) - z);
}

template LossResult ComputeLoss(Loss, const LossInput<float>&, float*);
template LossResult ComputeLoss(Loss, const LossInput<double>&, double*);
template void Probabilities(Loss, const float*, float*, int64_t, int64_t);
template void Probabilities(Loss, const double*, double*, int64_t, int64_t);
template int32_t PredictedClass(Loss, const float*, int64_t);
template int32_t PredictedClass(Loss, const double*, int64_t);

}  // namespace backprop::engine
