#include "tests/engine/error_bound.h"

#include <algorithm>
#include <cmath>

namespace backprop::reference {
namespace {

using engine::Activation;
using engine::Loss;

// Rounding of one evaluation of an activation, its derivative or a loss term, in units of u.
constexpr double kLocal = 8;

// sup |f′|, sup |f″| away from kinks, and the jump of f′ at 0.
struct Smoothness {
  double first, second, jump;
};
Smoothness SmoothnessOf(const engine::LayerSpec& layer) {
  switch (layer.activation) {
    case Activation::kIdentity:
      return {1, 0, 0};
    case Activation::kRelu:
      return {1, 0, 1};
    case Activation::kTanh:
      return {1, 0.77, 0};
    case Activation::kSigmoid:
      return {0.25, 0.097, 0};
    case Activation::kLeakyRelu:
      return {1, 0, 1 - layer.negative_slope};
    case Activation::kElu:
      return {std::max(1.0, layer.alpha), layer.alpha, std::abs(1 - layer.alpha)};
    case Activation::kGelu:
      return {1.13, 0.8, 0};
    case Activation::kSilu:
      return {1.1, 0.5, 0};
    case Activation::kSoftplus:
      return {1, 0.25, 0};
  }
  return {};
}

double At(const std::vector<double>& weights, size_t i) { return weights.empty() ? 1 : weights[i]; }

// Bounds of the row's loss and of dz, from the bound Ez of the row's outputs.
double LossRow(const engine::LossSpec& loss, const Batch& batch, size_t i,
               const std::vector<double>& z, const std::vector<double>& Ez, double share, double u,
               std::vector<double>* Edz) {
  const size_t k = z.size();
  const auto outputs = static_cast<double>(k);
  double E = 0;
  if (loss.kind == Loss::kSoftmaxCrossEntropy) {
    const auto q = SmoothedTargets(loss, batch, i, k);
    const auto p = Probabilities(loss.kind, z);
    const double m = *std::max_element(z.begin(), z.end());
    const double most = *std::max_element(Ez.begin(), Ez.end());
    double Q = 0;
    for (double value : q) Q += value;
    const double relative = std::expm1(2 * most);  // error of a probability
    for (size_t j = 0; j < k; ++j) {
      const double terms = outputs + kLocal + std::abs(z[j] - m);
      E +=
          q[j] * (2 * most + u * (outputs + kLocal) * (std::abs(z[j] - m) + std::log(outputs) + 1));
      (*Edz)[j] = share * (Q * p[j] * (relative + u * terms) + kLocal * u * (Q * p[j] + q[j]));
    }
    return E;
  }
  for (size_t j = 0; j < k; ++j) {
    double slope = 0, Eslope = 0, value = 0, Evalue = 0;
    if (loss.kind == Loss::kBinaryCrossEntropy) {
      const double y = batch.classes.empty() ? batch.y[i][j] : batch.classes[i];
      const double w = At(loss.class_weights, j);
      const double p = At(loss.pos_weight, j);
      const double largest = w * (p + 1);
      slope = largest;
      Eslope = largest * (0.25 * Ez[j] + kLocal * u);
      value = w * (p * y + 1 - y) * (std::abs(z[j]) + 1);
      Evalue = largest * Ez[j];
    } else {
      const double d = std::abs(z[j] - batch.y[i][j]);
      const double Ed = Ez[j] + u * d;
      if (loss.kind == Loss::kMeanSquaredError) {
        slope = 2 * d;
        Eslope = 2 * Ed;
        value = d * d;
        Evalue = 2 * d * Ed + Ed * Ed;
      } else if (loss.kind == Loss::kMeanAbsoluteError) {
        slope = 1;
        Eslope = d <= Ed ? 2 : 0;
        value = d;
        Evalue = Ed;
      } else {
        slope = std::min(d, loss.delta);
        Eslope = Ed;
        value = slope * d;
        Evalue = loss.delta * Ed;
      }
    }
    E += (Evalue + (outputs + kLocal) * u * value) / outputs;
    (*Edz)[j] = share / outputs * (Eslope + kLocal * u * slope);
  }
  return E;
}

}  // namespace

ErrorBound BoundOf(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                   const Batch& batch, const Result& r, bool standardized, double u) {
  const size_t n = batch.x.size();
  std::vector<Matrix> Ex = {Zeros(n, batch.x[0].size())};
  std::vector<Matrix> Ez;
  if (standardized) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t p = 0; p < Ex[0][i].size(); ++p) Ex[0][i][p] = u * std::abs(r.x[0][i][p]);
    }
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const Matrix& W = layers[l].W;
    const size_t units = layers[l].b.size();
    const auto terms = static_cast<double>(W.size() + 2);
    const Smoothness f = SmoothnessOf(spec.layers[l]);
    Ez.push_back(Zeros(n, units));
    Ex.push_back(Zeros(n, units));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        double magnitude = std::abs(layers[l].b[j]);
        double carried = 0;
        for (size_t p = 0; p < W.size(); ++p) {
          magnitude += (std::abs(r.x[l][i][p]) + Ex[l][i][p]) * std::abs(W[p][j]);
          carried += Ex[l][i][p] * std::abs(W[p][j]);
        }
        Ez[l][i][j] = carried + terms * u * magnitude;
        const double z = std::abs(r.z[l][i][j]);
        const bool identity = spec.layers[l].activation == Activation::kIdentity;
        const double local = identity ? 0 : kLocal * u * (1 + z) * f.first;
        Ex[l + 1][i][j] =
            r.mask[l][i][j] * (f.first * Ez[l][i][j] + local) + 2 * u * std::abs(r.x[l + 1][i][j]);
      }
    }
  }
  ErrorBound bound;
  bound.logits = Ex.back();
  bound.grads.resize(layers.size());
  const auto share = Shares(spec.loss, batch);
  Matrix Edx = Zeros(n, r.logits[0].size());
  for (size_t i = 0; i < n; ++i) {
    bound.loss +=
        share[i] * LossRow(spec.loss, batch, i, r.logits[i], bound.logits[i], share[i], u, &Edx[i]);
  }
  const auto rows = static_cast<double>(n + 2);
  for (size_t l = layers.size(); l-- > 0;) {
    const Matrix& W = layers[l].W;
    const size_t inputs = W.size();
    const size_t units = layers[l].b.size();
    const auto terms = static_cast<double>(units + 2);
    const Smoothness f = SmoothnessOf(spec.layers[l]);
    Layer& grad = bound.grads[l];
    grad = {Zeros(inputs, units), std::vector<double>(units, 0.0)};
    Matrix next = Zeros(n, inputs);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        const double da = std::abs(r.da[l][i][j]);
        const double dz = std::abs(r.dz[l][i][j]);
        const double z = r.z[l][i][j];
        const double slope = std::abs(FPrime(spec.layers[l], z));
        const double Eda = r.mask[l][i][j] * Edx[i][j] + 2 * u * da;
        const bool crosses = f.jump > 0 && std::abs(z) <= Ez[l][i][j];
        const bool identity = spec.layers[l].activation == Activation::kIdentity;
        const double Eslope =
            f.second * Ez[l][i][j] + (crosses ? f.jump : 0) + (identity ? 0 : kLocal * u * f.first);
        const double Edz = Eda * (slope + Eslope) + da * Eslope + u * dz;
        grad.b[j] += Edz + rows * u * (dz + Edz);
        for (size_t p = 0; p < inputs; ++p) {
          const double x = std::abs(r.x[l][i][p]);
          const double Exp = Ex[l][i][p];
          grad.W[p][j] += x * Edz + Exp * (dz + Edz) + rows * u * (x + Exp) * (dz + Edz);
          next[i][p] += (Edz + terms * u * (dz + Edz)) * std::abs(W[p][j]);
        }
      }
    }
    Edx = next;
  }
  return bound;
}

}  // namespace backprop::reference
