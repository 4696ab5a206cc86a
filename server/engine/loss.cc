#include "server/engine/loss.h"

#include <algorithm>
#include <cmath>

#include "server/engine/sigmoid.h"

namespace backprop::engine {
namespace {

template <class T>
T SampleWeight(const LossInput<T>& in, int64_t row) {
  return in.sample_weights == nullptr ? T(1) : in.sample_weights[row];
}

// Element j of an optional list of weights.
template <class T>
T WeightAt(const std::vector<double>& weights, int64_t j) {
  return weights.empty() ? T(1) : static_cast<T>(weights[static_cast<size_t>(j)]);
}

// Σ s_i, and for softmax cross-entropy with class indices Σ s_i·w_{y_i}, as PyTorch divides.
template <class T>
LossResult Weights(const LossSpec& loss, const LossInput<T>& in) {
  LossResult result;
  const bool by_class = loss.kind == Loss::kSoftmaxCrossEntropy && in.classes != nullptr;
  for (int64_t i = 0; i < in.n; ++i) {
    const auto s = static_cast<double>(SampleWeight(in, i));
    result.rows += s;
    result.weight += by_class ? s * WeightAt<double>(loss.class_weights, in.classes[i]) : s;
  }
  return result;
}

// A row's loss, unweighted, and whether it was predicted right. `share`, s_i / D, scales dz.
template <class T>
struct Row {
  T loss = 0;
  bool right = false;
};

// The targets of a row are smoothed and weighted by class, q_j = w_j·((1 − ε)·y_j + ε/k), with sum
// Q:
//   loss = −Σ_j q_j·log softmax(z)_j = Q·log Σ_j e^(z_j − m) − Σ_j q_j·(z_j − m),  m = max z
//   dz   = share·(Q·softmax(z) − q)
// The loss is made of terms q_j·(log Σ − (z_j − m)) ≥ 0, so that nothing cancels.
template <class T>
Row<T> SoftmaxCrossEntropy(const LossSpec& loss, const LossInput<T>& in, int64_t i, T share,
                           T* dz) {
  const int64_t k = in.k;
  const T* z = in.z + i * k;
  const int64_t best = std::max_element(z, z + k) - z;
  const T m = z[best];
  T sum_exp = 0;
  for (int64_t j = 0; j < k; ++j) sum_exp += std::exp(z[j] - m);
  const T log_sum = std::log(sum_exp);

  const bool indexed = in.classes != nullptr;
  const int64_t wanted = indexed ? in.classes[i]
                                 : std::max_element(in.targets + i * k, in.targets + (i + 1) * k) -
                                       (in.targets + i * k);
  Row<T> row;
  row.right = best == wanted;
  const auto q = [&](int64_t j) {
    const T y = indexed ? static_cast<T>(j == wanted) : in.targets[i * k + j];
    const T smooth = static_cast<T>(loss.label_smoothing);
    return WeightAt<T>(loss.class_weights, j) * ((1 - smooth) * y + smooth / static_cast<T>(k));
  };
  // Without smoothing only the label's own term is not 0.
  if (indexed && loss.label_smoothing == 0) {
    const T q_y = WeightAt<T>(loss.class_weights, wanted);
    row.loss = q_y * (log_sum - (z[wanted] - m));
    if (dz == nullptr) return row;
    for (int64_t j = 0; j < k; ++j) dz[j] = std::exp(z[j] - m) / sum_exp * q_y * share;
    dz[wanted] -= q_y * share;
    return row;
  }
  T Q = 0;
  for (int64_t j = 0; j < k; ++j) {
    Q += q(j);
    row.loss += q(j) * (log_sum - (z[j] - m));
  }
  if (dz == nullptr) return row;
  for (int64_t j = 0; j < k; ++j) dz[j] = (Q * std::exp(z[j] - m) / sum_exp - q(j)) * share;
  return row;
}

// For each element, p its pos_weight and w its class weight:
//   loss = w·((1 − y)·z + (1 + (p − 1)·y)·log(1 + e^−z));  dz = share/k·w·((1 + (p − 1)·y)·σ(z) −
//   p·y)
// where log(1 + e^−z) = max(−z, 0) + log(1 + e^−|z|).
template <class T>
Row<T> BinaryCrossEntropy(const LossSpec& loss, const LossInput<T>& in, int64_t i, T share, T* dz) {
  const T k = static_cast<T>(in.k);
  Row<T> row;
  row.right = true;
  for (int64_t j = 0; j < in.k; ++j) {
    const int64_t at = i * in.k + j;
    const T z = in.z[at];
    const T y = in.classes != nullptr ? static_cast<T>(in.classes[i]) : in.targets[at];
    const T p = WeightAt<T>(loss.pos_weight, j);
    const T w = WeightAt<T>(loss.class_weights, j);
    const T both = 1 + (p - 1) * y;
    const T log_term = std::log1p(std::exp(-std::abs(z)));
    // For either sign of z a sum of terms ≥ 0.
    row.loss += z > 0 ? w * ((1 - y) * z + both * log_term) : w * (both * log_term - p * y * z);
    row.right = row.right && (z > 0) == (y > T(0.5));
    if (dz != nullptr) dz[j] = w * (both * Sigmoid(z) - p * y) / k * share;
  }
  row.loss /= k;
  return row;
}

// d = z − y.  squared: d², 2·d;  absolute: |d|, sign d (0 at 0);
// Huber: d²/2, d where |d| ≤ δ, else δ·(|d| − δ/2), δ·sign d.
template <class T>
Row<T> Regression(const LossSpec& loss, const LossInput<T>& in, int64_t i, T share, T* dz) {
  const T k = static_cast<T>(in.k);
  const T delta = static_cast<T>(loss.delta);
  Row<T> row;
  for (int64_t j = 0; j < in.k; ++j) {
    const T d = in.z[i * in.k + j] - in.targets[i * in.k + j];
    const T size = std::abs(d);
    const T sign = static_cast<T>(d > 0) - static_cast<T>(d < 0);
    T slope = 0;
    if (loss.kind == Loss::kMeanSquaredError) {
      row.loss += d * d;
      slope = 2 * d;
    } else if (loss.kind == Loss::kMeanAbsoluteError) {
      row.loss += size;
      slope = sign;
    } else if (size <= delta) {
      row.loss += T(0.5) * d * d;
      slope = d;
    } else {
      row.loss += delta * (size - T(0.5) * delta);
      slope = delta * sign;
    }
    if (dz != nullptr) dz[j] = slope / k * share;
  }
  row.loss /= k;
  return row;
}

}  // namespace

template <class T>
LossResult ComputeLoss(const LossSpec& loss, const LossInput<T>& in, T* dz) {
  LossResult result = Weights(loss, in);
  const double D = result.weight;
  for (int64_t i = 0; i < in.n; ++i) {
    const T s = SampleWeight(in, i);
    const T share = D > 0 ? static_cast<T>(static_cast<double>(s) / D) : T(0);
    T* d = dz == nullptr ? nullptr : dz + i * in.k;
    if (s == 0) {  // as if the row were not there, whatever its loss
      if (d != nullptr) std::fill_n(d, in.k, T(0));
      continue;
    }
    const Row<T> row =
        loss.kind == Loss::kSoftmaxCrossEntropy  ? SoftmaxCrossEntropy(loss, in, i, share, d)
        : loss.kind == Loss::kBinaryCrossEntropy ? BinaryCrossEntropy(loss, in, i, share, d)
                                                 : Regression(loss, in, i, share, d);
    result.sum += static_cast<double>(s) * static_cast<double>(row.loss);
    if (row.right) result.correct += static_cast<double>(s);
  }
  return result;
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

template LossResult ComputeLoss(const LossSpec&, const LossInput<float>&, float*);
template LossResult ComputeLoss(const LossSpec&, const LossInput<double>&, double*);
template void Probabilities(Loss, const float*, float*, int64_t, int64_t);
template void Probabilities(Loss, const double*, double*, int64_t, int64_t);
template int32_t PredictedClass(Loss, const float*, int64_t);
template int32_t PredictedClass(Loss, const double*, int64_t);

}  // namespace backprop::engine
