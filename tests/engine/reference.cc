#include "tests/engine/reference.h"

#include <cmath>
#include <cstddef>

namespace backprop::reference {
namespace {

using engine::Activation;
using engine::Loss;

double Sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

double F(Activation f, double z) {
  if (f == Activation::kRelu) return z > 0 ? z : 0;
  if (f == Activation::kTanh) return std::tanh(z);
  if (f == Activation::kSigmoid) return Sigmoid(z);
  return z;
}

double FPrime(Activation f, double z) {
  if (f == Activation::kRelu) return z > 0 ? 1 : 0;
  if (f == Activation::kTanh) return 1 - std::tanh(z) * std::tanh(z);
  if (f == Activation::kSigmoid) return Sigmoid(z) * (1 - Sigmoid(z));
  return 1;
}

Matrix Zeros(size_t rows, size_t cols) { return Matrix(rows, std::vector<double>(cols, 0.0)); }

size_t ArgMax(const std::vector<double>& v) {
  size_t best = 0;
  for (size_t j = 1; j < v.size(); ++j) {
    if (v[j] > v[best]) best = j;
  }
  return best;
}

// Loss, correct rows and dz of the last layer's outputs z.
void LossAndGradient(Loss kind, const Matrix& z, const Batch& batch, Result* out, Matrix* dz) {
  const size_t n = z.size();
  const size_t k = z[0].size();
  const double rows = static_cast<double>(n);
  const double elements = static_cast<double>(n * k);
  *dz = Zeros(n, k);
  for (size_t i = 0; i < n; ++i) {
    std::vector<double> y(k, 0.0);
    if (batch.classes.empty()) {
      y = batch.y[i];
    } else if (kind == Loss::kSoftmaxCrossEntropy) {
      y[static_cast<size_t>(batch.classes[i])] = 1;
    } else {
      y[0] = batch.classes[i];
    }
    if (kind == Loss::kSoftmaxCrossEntropy) {
      const double m = z[i][ArgMax(z[i])];
      double sum_exp = 0, sum_y = 0;
      for (size_t j = 0; j < k; ++j) sum_exp += std::exp(z[i][j] - m);
      for (size_t j = 0; j < k; ++j) sum_y += y[j];
      for (size_t j = 0; j < k; ++j) {
        out->loss -= y[j] * (z[i][j] - m - std::log(sum_exp)) / rows;
        (*dz)[i][j] = (sum_y * std::exp(z[i][j] - m) / sum_exp - y[j]) / rows;
      }
      if (ArgMax(z[i]) == ArgMax(y)) ++out->correct;
    } else if (kind == Loss::kBinaryCrossEntropy) {
      bool right = true;
      for (size_t j = 0; j < k; ++j) {
        // −log σ(z) = log(1 + e^−z) and −log(1 − σ(z)) = log(1 + e^z).
        const double minus_log_p =
            z[i][j] > 0 ? std::log1p(std::exp(-z[i][j])) : -z[i][j] + std::log1p(std::exp(z[i][j]));
        out->loss += (y[j] * minus_log_p + (1 - y[j]) * (minus_log_p + z[i][j])) / elements;
        (*dz)[i][j] = (Sigmoid(z[i][j]) - y[j]) / elements;
        right = right && (z[i][j] > 0) == (y[j] > 0.5);
      }
      if (right) ++out->correct;
    } else {
      for (size_t j = 0; j < k; ++j) {
        const double difference = z[i][j] - y[j];
        out->loss += difference * difference / elements;
        (*dz)[i][j] = 2 * difference / elements;
      }
    }
  }
}

}  // namespace

Result ForwardBackward(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                       const Batch& batch) {
  const size_t n = batch.x.size();
  std::vector<Matrix> x = {batch.x};  // x[l] enters layer l
  std::vector<Matrix> z;
  for (size_t l = 0; l < layers.size(); ++l) {
    const Matrix& W = layers[l].W;
    const size_t units = layers[l].b.size();
    z.push_back(Zeros(n, units));
    x.push_back(Zeros(n, units));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        double sum = layers[l].b[j];
        for (size_t p = 0; p < W.size(); ++p) sum += x[l][i][p] * W[p][j];
        z[l][i][j] = sum;
        x[l + 1][i][j] = F(spec.layers[l].activation, sum);
      }
    }
  }

  Result result;
  result.logits = x.back();
  result.grads.resize(layers.size());
  Matrix da;
  LossAndGradient(spec.loss, x.back(), batch, &result, &da);
  for (size_t l = layers.size(); l-- > 0;) {
    const Matrix& W = layers[l].W;
    const size_t inputs = W.size();
    const size_t units = layers[l].b.size();
    Matrix dz = Zeros(n, units);
    Matrix dx = Zeros(n, inputs);
    Layer& grad = result.grads[l];
    grad.W = Zeros(inputs, units);
    grad.b.assign(units, 0.0);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < units; ++j) {
        dz[i][j] = da[i][j] * FPrime(spec.layers[l].activation, z[l][i][j]);
        grad.b[j] += dz[i][j];
        for (size_t p = 0; p < inputs; ++p) {
          grad.W[p][j] += x[l][i][p] * dz[i][j];
          dx[i][p] += dz[i][j] * W[p][j];
        }
      }
    }
    da = dx;
  }
  return result;
}

namespace {

void ApplyOne(const engine::OptimizerSpec& spec, int t, double g, double* p, double* s1,
              double* s2) {
  if (spec.kind == engine::OptimizerKind::kSgd) {
    *s1 = spec.momentum * *s1 + g;
    *p -= spec.learning_rate * *s1;
    return;
  }
  *s1 = spec.beta1 * *s1 + (1 - spec.beta1) * g;
  *s2 = spec.beta2 * *s2 + (1 - spec.beta2) * g * g;
  const double m_hat = *s1 / (1 - std::pow(spec.beta1, t));
  const double v_hat = *s2 / (1 - std::pow(spec.beta2, t));
  *p -= spec.learning_rate * m_hat / (std::sqrt(v_hat) + spec.epsilon);
}

}  // namespace

void Apply(const engine::OptimizerSpec& spec, const std::vector<Layer>& grads,
           std::vector<Layer>* layers, Optimizer* optimizer) {
  if (optimizer->slot1.empty()) {
    for (const Layer& layer : *layers) {
      const Layer zeros = {Zeros(layer.W.size(), layer.b.size()),
                           std::vector<double>(layer.b.size(), 0.0)};
      optimizer->slot1.push_back(zeros);
      optimizer->slot2.push_back(zeros);
    }
  }
  ++optimizer->t;
  for (size_t l = 0; l < layers->size(); ++l) {
    Layer& layer = (*layers)[l];
    Layer& s1 = optimizer->slot1[l];
    Layer& s2 = optimizer->slot2[l];
    for (size_t j = 0; j < layer.b.size(); ++j) {
      ApplyOne(spec, optimizer->t, grads[l].b[j], &layer.b[j], &s1.b[j], &s2.b[j]);
      for (size_t p = 0; p < layer.W.size(); ++p) {
        ApplyOne(spec, optimizer->t, grads[l].W[p][j], &layer.W[p][j], &s1.W[p][j], &s2.W[p][j]);
      }
    }
  }
}

std::vector<double> Probabilities(engine::Loss loss, const std::vector<double>& z) {
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
