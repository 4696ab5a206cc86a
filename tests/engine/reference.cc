#include "tests/engine/reference.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "tests/engine/reference_random.h"

namespace backprop::reference {
namespace {

using engine::Activation;
using engine::Loss;

double Sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
// log(1 + e^z)
double Softplus(double z) { return z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z)); }
double Phi(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }
double phi(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }

size_t ArgMax(const std::vector<double>& v) {
  size_t best = 0;
  for (size_t j = 1; j < v.size(); ++j) {
    if (v[j] > v[best]) best = j;
  }
  return best;
}

double At(const std::vector<double>& weights, size_t i) { return weights.empty() ? 1 : weights[i]; }

}  // namespace

Matrix Zeros(size_t rows, size_t cols) { return Matrix(rows, std::vector<double>(cols, 0.0)); }

double F(const engine::LayerSpec& layer, double z) {
  switch (layer.activation) {
    case Activation::kIdentity:
      return z;
    case Activation::kRelu:
      return z > 0 ? z : 0;
    case Activation::kTanh:
      return std::tanh(z);
    case Activation::kSigmoid:
      return Sigmoid(z);
    case Activation::kLeakyRelu:
      return z > 0 ? z : layer.negative_slope * z;
    case Activation::kElu:
      return z > 0 ? z : layer.alpha * std::expm1(z);
    case Activation::kGelu:
      return z * Phi(z);
    case Activation::kSilu:
      return z * Sigmoid(z);
    case Activation::kSoftplus:
      return Softplus(z);
  }
  return 0;
}

double FPrime(const engine::LayerSpec& layer, double z) {
  switch (layer.activation) {
    case Activation::kIdentity:
      return 1;
    case Activation::kRelu:
      return z > 0 ? 1 : 0;
    case Activation::kTanh:
      return 1 - std::tanh(z) * std::tanh(z);
    case Activation::kSigmoid:
      return Sigmoid(z) * (1 - Sigmoid(z));
    case Activation::kLeakyRelu:
      return z > 0 ? 1 : layer.negative_slope;
    case Activation::kElu:
      return z > 0 ? 1 : layer.alpha * std::exp(z);
    case Activation::kGelu:
      return Phi(z) + z * phi(z);
    case Activation::kSilu:
      return Sigmoid(z) + z * Sigmoid(z) * (1 - Sigmoid(z));
    case Activation::kSoftplus:
      return Sigmoid(z);
  }
  return 0;
}

Scaler FitScaler(const Batch& batch) {
  Scaler scaler;
  double total = 0;
  for (size_t i = 0; i < batch.x.size(); ++i) total += At(batch.weights, i);
  for (size_t j = 0; j < batch.x[0].size(); ++j) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < batch.x.size(); ++i)
      mean += At(batch.weights, i) * batch.x[i][j] / total;
    for (size_t i = 0; i < batch.x.size(); ++i) {
      variance += At(batch.weights, i) * std::pow(batch.x[i][j] - mean, 2) / total;
    }
    scaler.mean.push_back(mean);
    scaler.std.push_back(variance < 1e-30 ? 1 : std::sqrt(variance));
  }
  return scaler;
}

std::vector<double> SmoothedTargets(const engine::LossSpec& loss, const Batch& batch, size_t row,
                                    size_t k) {
  std::vector<double> q(k, 0.0);
  if (batch.classes.empty()) {
    q = batch.y[row];
  } else {
    q[static_cast<size_t>(batch.classes[row])] = 1;
  }
  for (size_t j = 0; j < k; ++j) {
    q[j] = (1 - loss.label_smoothing) * q[j] + loss.label_smoothing / static_cast<double>(k);
    q[j] *= At(loss.class_weights, j);
  }
  return q;
}

std::vector<double> Shares(const engine::LossSpec& loss, const Batch& batch) {
  const bool by_class = loss.kind == Loss::kSoftmaxCrossEntropy && !batch.classes.empty();
  double divisor = 0;
  for (size_t i = 0; i < batch.x.size(); ++i) {
    const double w = by_class ? At(loss.class_weights, static_cast<size_t>(batch.classes[i])) : 1;
    divisor += At(batch.weights, i) * w;
  }
  std::vector<double> shares;
  for (size_t i = 0; i < batch.x.size(); ++i) {
    shares.push_back(divisor > 0 ? At(batch.weights, i) / divisor : 0);
  }
  return shares;
}

namespace {

// Loss, correct rows and dz of the last layer's outputs z.
void LossAndGradient(const engine::LossSpec& loss, const Matrix& z, const Batch& batch, Result* out,
                     Matrix* dz) {
  const size_t n = z.size();
  const size_t k = z[0].size();
  const double outputs = static_cast<double>(k);
  const std::vector<double> share = Shares(loss, batch);
  *dz = Zeros(n, k);
  for (size_t i = 0; i < n; ++i) {
    const bool indexed = !batch.classes.empty();
    double row_loss = 0;
    bool right = false;
    if (loss.kind == Loss::kSoftmaxCrossEntropy) {
      const std::vector<double> q = SmoothedTargets(loss, batch, i, k);
      const std::vector<double> p = Probabilities(loss.kind, z[i]);
      double sum_q = 0;
      for (double value : q) sum_q += value;
      const double m = z[i][ArgMax(z[i])];
      double sum_exp = 0;
      for (size_t j = 0; j < k; ++j) sum_exp += std::exp(z[i][j] - m);
      for (size_t j = 0; j < k; ++j) {
        row_loss -= q[j] * (z[i][j] - m - std::log(sum_exp));
        (*dz)[i][j] = share[i] * (sum_q * p[j] - q[j]);
      }
      right =
          ArgMax(z[i]) == (indexed ? static_cast<size_t>(batch.classes[i]) : ArgMax(batch.y[i]));
    } else if (loss.kind == Loss::kBinaryCrossEntropy) {
      right = true;
      for (size_t j = 0; j < k; ++j) {
        const double y = indexed ? batch.classes[i] : batch.y[i][j];
        const double w = At(loss.class_weights, j);
        const double p = At(loss.pos_weight, j);
        // −log σ(z) = log(1 + e^−z) and −log(1 − σ(z)) = log(1 + e^z).
        row_loss += w * (p * y * Softplus(-z[i][j]) + (1 - y) * Softplus(z[i][j])) / outputs;
        (*dz)[i][j] =
            share[i] / outputs * w * (p * y * (Sigmoid(z[i][j]) - 1) + (1 - y) * Sigmoid(z[i][j]));
        right = right && (z[i][j] > 0) == (y > 0.5);
      }
    } else {
      for (size_t j = 0; j < k; ++j) {
        const double d = z[i][j] - batch.y[i][j];
        const double sign = d > 0 ? 1 : d < 0 ? -1 : 0;
        double value = 0, slope = 0;
        if (loss.kind == Loss::kMeanSquaredError) {
          value = d * d;
          slope = 2 * d;
        } else if (loss.kind == Loss::kMeanAbsoluteError) {
          value = std::abs(d);
          slope = sign;
        } else if (std::abs(d) <= loss.delta) {
          value = d * d / 2;
          slope = d;
        } else {
          value = loss.delta * (std::abs(d) - loss.delta / 2);
          slope = loss.delta * sign;
        }
        row_loss += value / outputs;
        (*dz)[i][j] = share[i] / outputs * slope;
      }
    }
    out->loss += share[i] * row_loss;
    if (right) out->correct += At(batch.weights, i);
    if (share[i] > 0) out->weight = At(batch.weights, i) / share[i];
  }
}

}  // namespace

Result ForwardBackward(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                       const Batch& batch, const Scaler* scaler,
                       std::optional<uint64_t> dropout_step) {
  const size_t n = batch.x.size();
  Result r;
  r.x = {batch.x};
  if (scaler != nullptr) {
    for (auto& row : r.x[0]) {
      for (size_t j = 0; j < row.size(); ++j) row[j] = (row[j] - scaler->mean[j]) / scaler->std[j];
    }
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const Matrix& W = layers[l].W;
    const size_t units = layers[l].b.size();
    const double rate = dropout_step.has_value() ? spec.layers[l].dropout : 0;
    r.z.push_back(Zeros(n, units));
    r.x.push_back(Zeros(n, units));
    r.mask.push_back(Zeros(n, units));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        double sum = layers[l].b[j];
        for (size_t p = 0; p < W.size(); ++p) sum += r.x[l][i][p] * W[p][j];
        r.z[l][i][j] = sum;
        r.mask[l][i][j] =
            rate > 0 ? DropoutFactor(spec.seed, *dropout_step, l, rate, i * units + j) : 1;
        r.x[l + 1][i][j] = F(spec.layers[l], sum) * r.mask[l][i][j];
      }
    }
  }

  r.logits = r.x.back();
  r.grads.resize(layers.size());
  r.da.resize(layers.size());
  r.dz.resize(layers.size());
  Matrix dx;
  LossAndGradient(spec.loss, r.x.back(), batch, &r, &dx);
  for (size_t l = layers.size(); l-- > 0;) {
    const Matrix& W = layers[l].W;
    const size_t inputs = W.size();
    const size_t units = layers[l].b.size();
    r.da[l] = Zeros(n, units);
    r.dz[l] = Zeros(n, units);
    Matrix next_dx = Zeros(n, inputs);
    Layer& grad = r.grads[l];
    grad.W = Zeros(inputs, units);
    grad.b.assign(units, 0.0);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        r.da[l][i][j] = dx[i][j] * r.mask[l][i][j];
        r.dz[l][i][j] = r.da[l][i][j] * FPrime(spec.layers[l], r.z[l][i][j]);
        grad.b[j] += r.dz[l][i][j];
        for (size_t p = 0; p < inputs; ++p) {
          grad.W[p][j] += r.x[l][i][p] * r.dz[l][i][j];
          next_dx[i][p] += r.dz[l][i][j] * W[p][j];
        }
      }
    }
    dx = next_dx;
  }
  return r;
}

std::vector<double> Probabilities(Loss loss, const std::vector<double>& z) {
  std::vector<double> p;
  if (loss == Loss::kBinaryCrossEntropy) {
    for (double v : z) p.push_back(Sigmoid(v));
    return p;
  }
  const double m = z[ArgMax(z)];
  double sum = 0;
  for (double v : z) sum += std::exp(v - m);
  for (double v : z) p.push_back(std::exp(v - m) / sum);
  return p;
}

}  // namespace backprop::reference
