#include "server/engine/optimizer.h"

#include <algorithm>
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

// One update of P parameters: parameters p, gradients g, slots s1, s2, … behind them.
template <class T>
struct Update {
  const OptimizerSpec& spec;
  int64_t P;
  int64_t t;  // the optimiser's step, from 1
  double learning_rate;
  const T* in;
  const T* g;
  T* out;

  // g + weight_decay·p: L2, the gradient of weight_decay/2·‖p‖².
  T Decayed(int64_t i) const { return g[i] + static_cast<T>(spec.weight_decay) * in[i]; }
};

// b ← momentum·b + g;  p ← p − lr·b, or with Nesterov p − lr·(g + momentum·b)
template <class T>
bool Sgd(const Update<T>& u) {
  const T lr = static_cast<T>(u.learning_rate);
  const T momentum = static_cast<T>(u.spec.momentum);
  FiniteCheck<T> finite;
  if (momentum == 0) {
    for (int64_t i = 0; i < u.P; ++i) {
      u.out[i] = u.in[i] - lr * u.Decayed(i);
      finite.Add(u.out[i]);
    }
    return finite.ok();
  }
  for (int64_t i = 0; i < u.P; ++i) {
    const T g = u.Decayed(i);
    const T b = momentum * u.in[u.P + i] + g;
    u.out[u.P + i] = b;
    u.out[i] = u.in[i] - lr * (u.spec.nesterov ? g + momentum * b : b);
    finite.Add(b);
    finite.Add(u.out[i]);
  }
  return finite.ok();
}

// m ← β1·m + (1 − β1)·g;  v ← β2·v + (1 − β2)·g²;
// p ← p − lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
// AdamW decays p ← p·(1 − lr·weight_decay) first, and leaves g alone.
template <class T>
bool Adam(const Update<T>& u) {
  const OptimizerSpec& spec = u.spec;
  const bool decoupled = spec.kind == OptimizerKind::kAdamW;
  const T beta1 = static_cast<T>(spec.beta1);
  const T beta2 = static_cast<T>(spec.beta2);
  const T rest1 = static_cast<T>(1 - spec.beta1);
  const T rest2 = static_cast<T>(1 - spec.beta2);
  const T epsilon = static_cast<T>(spec.epsilon);
  const double correction1 = 1 - std::pow(spec.beta1, static_cast<double>(u.t));
  const double correction2 = 1 - std::pow(spec.beta2, static_cast<double>(u.t));
  const T step_size = static_cast<T>(u.learning_rate / correction1);
  const T root_correction2 = static_cast<T>(std::sqrt(correction2));
  const T kept = static_cast<T>(decoupled ? 1 - u.learning_rate * spec.weight_decay : 1);
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < u.P; ++i) {
    const T g = decoupled ? u.g[i] : u.Decayed(i);
    const T m = beta1 * u.in[u.P + i] + rest1 * g;
    const T v = beta2 * u.in[2 * u.P + i] + rest2 * g * g;
    u.out[u.P + i] = m;
    u.out[2 * u.P + i] = v;
    u.out[i] = u.in[i] * kept - step_size * m / (std::sqrt(v) / root_correction2 + epsilon);
    finite.Add(m);
    finite.Add(v);
    finite.Add(u.out[i]);
  }
  return finite.ok();
}

// v ← α·v + (1 − α)·g²;  if centered, c ← α·c + (1 − α)·g and v − c² stands for v;
// d = g / (√v + ε);  p ← p − lr·d, or with momentum b ← momentum·b + d; p ← p − lr·b
template <class T>
bool RmsProp(const Update<T>& u) {
  const OptimizerSpec& spec = u.spec;
  const T lr = static_cast<T>(u.learning_rate);
  const T alpha = static_cast<T>(spec.alpha);
  const T rest = static_cast<T>(1 - spec.alpha);
  const T momentum = static_cast<T>(spec.momentum);
  const T epsilon = static_cast<T>(spec.epsilon);
  const int64_t momentum_at = 2 * u.P;
  const int64_t center_at = (spec.momentum > 0 ? 3 : 2) * u.P;
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < u.P; ++i) {
    const T g = u.Decayed(i);
    const T v = alpha * u.in[u.P + i] + rest * g * g;
    u.out[u.P + i] = v;
    T variance = v;
    if (spec.centered) {
      const T c = alpha * u.in[center_at + i] + rest * g;
      u.out[center_at + i] = c;
      variance = v - c * c;
      // Rounding can leave it below 0; NaN stays.
      if (variance < 0) variance = 0;
    }
    T d = g / (std::sqrt(variance) + epsilon);
    if (spec.momentum > 0) {
      d += momentum * u.in[momentum_at + i];
      u.out[momentum_at + i] = d;
    }
    u.out[i] = u.in[i] - lr * d;
    finite.Add(v);
    finite.Add(d);
    finite.Add(u.out[i]);
  }
  return finite.ok();
}

// v ← v + g²;  p ← p − lr / (1 + (t − 1)·lr_decay) · g / (√v + ε)
template <class T>
bool Adagrad(const Update<T>& u) {
  const T rate =
      static_cast<T>(u.learning_rate / (1 + static_cast<double>(u.t - 1) * u.spec.lr_decay));
  const T epsilon = static_cast<T>(u.spec.epsilon);
  FiniteCheck<T> finite;
  for (int64_t i = 0; i < u.P; ++i) {
    const T g = u.Decayed(i);
    const T v = u.in[u.P + i] + g * g;
    u.out[u.P + i] = v;
    u.out[i] = u.in[i] - rate * g / (std::sqrt(v) + epsilon);
    finite.Add(v);
    finite.Add(u.out[i]);
  }
  return finite.ok();
}

}  // namespace

template <class T>
double Norm(const T* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto x = static_cast<double>(values[i]);
    sum += x * x;
  }
  return std::sqrt(sum);
}

template <class T>
double PenalizeAndClip(const Network& network, const State& in, T* gradients) {
  constexpr double kClipEpsilon = 1e-6;  // as clip_grad_norm_ has it
  const OptimizerSpec& spec = network.spec().optimizer;
  const int64_t P = network.parameter_count();
  if (spec.l1 > 0) {
    const T* p = in.values.as<T>().data();
    const T l1 = static_cast<T>(spec.l1);
    for (int64_t i = 0; i < P; ++i) {
      gradients[i] += l1 * (static_cast<T>(p[i] > 0) - static_cast<T>(p[i] < 0));
    }
  }
  const double norm = Norm(gradients, P);
  if (spec.clipping == Clipping::kNorm) {
    const double share = spec.clip / (norm + kClipEpsilon);
    if (share < 1) {
      for (int64_t i = 0; i < P; ++i) gradients[i] *= static_cast<T>(share);
    }
  } else if (spec.clipping == Clipping::kValue) {
    const T limit = static_cast<T>(spec.clip);
    for (int64_t i = 0; i < P; ++i) gradients[i] = std::clamp(gradients[i], -limit, limit);
  }
  return norm;
}

template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients,
                    double learning_rate, State* out) {
  assert(&in != out);
  out->step = in.step + 1;
  out->optimizer_step = in.optimizer_step + 1;
  out->plateau = in.plateau;
  if (out->standardization != in.standardization) out->standardization = in.standardization;
  const Update<T> update = {network.spec().optimizer,  network.parameter_count(),
                            out->optimizer_step,       learning_rate,
                            in.values.as<T>().data(),  gradients,
                            out->values.as<T>().data()};
  switch (update.spec.kind) {
    case OptimizerKind::kSgd:
      return Sgd(update);
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return Adam(update);
    case OptimizerKind::kRmsProp:
      return RmsProp(update);
    case OptimizerKind::kAdagrad:
      return Adagrad(update);
  }
  return false;
}

template double Norm(const float*, int64_t);
template double Norm(const double*, int64_t);
template double PenalizeAndClip(const Network&, const State&, float*);
template double PenalizeAndClip(const Network&, const State&, double*);
template bool ApplyGradients(const Network&, const State&, const float*, double, State*);
template bool ApplyGradients(const Network&, const State&, const double*, double, State*);

}  // namespace backprop::engine
