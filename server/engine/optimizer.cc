#include "server/engine/optimizer.h"

#include <cassert>
#include <cmath>

namespace backprop::engine {
namespace {

// x·0 is 0 for every finite x and NaN for the others, so a sum of such products tells whether all
// were finite, without a branch.
template <class T>
struct FiniteCheck {
  T sum = 0;
  void Add(T x) { sum += x * T(0); }
  bool ok() const { return sum == 0; }
};

// p ← p − learning_rate·g
template <class T>
bool Sgd(const OptimizerSpec& spec, int64_t P, const T* in, const T* g, T* out) {
  const T learning_rate = static_cast<T>(spec.learning_rate);
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < P; ++i) {
    out[i] = in[i] - learning_rate * g[i];
    finite.Add(out[i]);
  }
  return finite.ok();
}

// b ← momentum·b + g;  p ← p − learning_rate·b
template <class T>
bool Momentum(const OptimizerSpec& spec, int64_t P, const T* in, const T* g, T* out) {
  const T learning_rate = static_cast<T>(spec.learning_rate);
  const T momentum = static_cast<T>(spec.momentum);
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < P; ++i) {
    const T b = momentum * in[P + i] + g[i];
    out[P + i] = b;
    out[i] = in[i] - learning_rate * b;
    finite.Add(b);
    finite.Add(out[i]);
  }
  return finite.ok();
}

// m ← β1·m + (1 − β1)·g;  v ← β2·v + (1 − β2)·g²;
// p ← p − learning_rate / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
template <class T>
bool Adam(const OptimizerSpec& spec, int64_t P, int64_t t, const T* in, const T* g, T* out) {
  const T beta1 = static_cast<T>(spec.beta1);
  const T beta2 = static_cast<T>(spec.beta2);
  const T rest1 = static_cast<T>(1 - spec.beta1);
  const T rest2 = static_cast<T>(1 - spec.beta2);
  const T epsilon = static_cast<T>(spec.epsilon);
  const double correction1 = 1 - std::pow(spec.beta1, static_cast<double>(t));
  const double correction2 = 1 - std::pow(spec.beta2, static_cast<double>(t));
  const T step_size = static_cast<T>(spec.learning_rate / correction1);
  const T root_correction2 = static_cast<T>(std::sqrt(correction2));
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < P; ++i) {
    const T m = beta1 * in[P + i] + rest1 * g[i];
    const T v = beta2 * in[2 * P + i] + rest2 * g[i] * g[i];
    out[P + i] = m;
    out[2 * P + i] = v;
    out[i] = in[i] - step_size * m / (std::sqrt(v) / root_correction2 + epsilon);
    finite.Add(m);
    finite.Add(v);
    finite.Add(out[i]);
  }
  return finite.ok();
}

}  // namespace

template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients, State* out) {
  assert(&in != out);
  const OptimizerSpec& spec = network.spec().optimizer;
  const int64_t P = network.parameter_count();
  const T* from = in.values.as<T>().data();
  T* to = out->values.as<T>().data();
  out->step = in.step + 1;
  out->optimizer_step = in.optimizer_step + 1;
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return spec.momentum == 0 ? Sgd(spec, P, from, gradients, to)
                                : Momentum(spec, P, from, gradients, to);
    case OptimizerKind::kAdam:
      return Adam(spec, P, out->optimizer_step, from, gradients, to);
  }
  return false;
}

template bool ApplyGradients(const Network&, const State&, const float*, State*);
template bool ApplyGradients(const Network&, const State&, const double*, State*);

}  // namespace backprop::engine
