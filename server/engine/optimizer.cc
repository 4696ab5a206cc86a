#include "server/engine/optimizer.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <limits>

#include "server/engine/vector.h"

namespace backprop::engine {
namespace {

// Number of parameters in a part of the work: few enough for the first-level cache, enough to be
// worth the handover to another thread. Sums are formed per part, so that they do not depend on the
// threads.
constexpr int64_t kPart = 16 * 1024;

constexpr int64_t PartsOf(int64_t P) { return (P + kPart - 1) / kPart; }

// x·0 is 0 for finite x and NaN otherwise. The sum of such products shows without a branch whether
// all x were finite.
template <class T>
struct FiniteCheck {
  Vec<T> sum = {};
  [[gnu::always_inline]] void Add(Vec<T> x) { sum += x * T(0); }
  bool ok() const { return SumOfLanes<T>(sum) == 0; }
};

// Square root per lane; the compiler makes it one instruction.
template <class T>
[[gnu::always_inline]] inline Vec<T> Sqrt(Vec<T> x) {
  Vec<T> root;
  for (int64_t l = 0; l < kLanes<T>; ++l) root[l] = std::sqrt(x[l]);
  return root;
}

// g + l1·sign(p): g plus the gradient of the L1 penalty.
template <class T>
[[gnu::always_inline]] inline Vec<T> Penalized(Vec<T> g, Vec<T> p, T l1) {
  return g + (p > 0 ? Splat<T>(l1) : p < 0 ? Splat<T>(-l1) : Vec<T>{});
}

// One update of the P parameters p by the gradients g. The slots s1, s2, … follow p in memory.
template <class T>
struct Update {
  const OptimizerSpec& spec;
  int64_t P;
  int64_t t;  // the optimiser's step, from 1
  double learning_rate;
  T clip_scale;  // clipping by norm: factor of the gradients, at most 1
  T clip_value;  // clipping by value: the limit, or infinity
  const T* in;
  const T* g;
  T* out;

  // The gradient for the optimiser: with the L1 penalty, clipped, then with L2 (the gradient of
  // weight_decay/2·‖p‖²) unless the decay is decoupled.
  [[gnu::always_inline]] Vec<T> Gradient(Vec<T> raw, Vec<T> p) const {
    Vec<T> x = Penalized<T>(raw, p, static_cast<T>(spec.l1)) * clip_scale;
    x = Max<T>(Min<T>(x, Splat<T>(clip_value)), Splat<T>(-clip_value));
    const bool decoupled = spec.kind == OptimizerKind::kAdamW;
    return decoupled ? x : x + static_cast<T>(spec.weight_decay) * p;
  }
};

// Makes one pass over the parameters: `rule` computes the next p from p and g and updates the
// slots. Returns whether everything written is finite.
template <class T, int kSlots, class Rule>
bool Sweep(const Update<T>& u, Parallel* parallel, const Rule& rule) {
  const auto sweep_part = [&](int64_t part) {
    FiniteCheck<T> finite;
    const int64_t end = std::min(u.P, (part + 1) * kPart);
    const auto one = [&](int64_t i, const auto& load, const auto& store) {
      const Vec<T> p = load(u.in + i);
      Vec<T> slots[kSlots + 1];
      for (int s = 0; s < kSlots; ++s) slots[s] = load(u.in + (s + 1) * u.P + i);
      const Vec<T> next = rule(p, u.Gradient(load(u.g + i), p), slots);
      finite.Add(next);
      store(u.out + i, next);
      for (int s = 0; s < kSlots; ++s) {
        finite.Add(slots[s]);
        store(u.out + (s + 1) * u.P + i, slots[s]);
      }
    };
    int64_t i = part * kPart;
    for (; i + kLanes<T> <= end; i += kLanes<T>) one(i, Load<T>, Store<T>);
    if (i < end) {
      one(
          i, [&](const T* from) { return LoadPart<T>(from, end - i); },
          [&](T* to, Vec<T> v) { StorePart<T>(to, v, end - i); });
    }
    return finite.ok();
  };
  if (u.P <= kPart) return sweep_part(0);
  std::atomic<bool> all_finite{true};
  parallel->For(PartsOf(u.P), [&](int64_t part) {
    if (!sweep_part(part)) all_finite.store(false, std::memory_order_relaxed);
  });
  return all_finite.load();
}

// b ← momentum·b + g;  p ← p − lr·b, or with Nesterov p − lr·(g + momentum·b)
template <class T>
bool Sgd(const Update<T>& u, Parallel* parallel) {
  using V = Vec<T>;
  const T lr = static_cast<T>(u.learning_rate);
  const T momentum = static_cast<T>(u.spec.momentum);
  if (momentum == 0) {
    return Sweep<T, 0>(u, parallel, [=](V p, V g, V*) { return p - lr * g; });
  }
  const bool nesterov = u.spec.nesterov;
  return Sweep<T, 1>(u, parallel, [=](V p, V g, V* slots) {
    V& b = slots[0];
    b = momentum * b + g;
    return p - lr * (nesterov ? g + momentum * b : b);
  });
}

// m ← β1·m + (1 − β1)·g;  v ← β2·v + (1 − β2)·g²; p ← p − lr / (1 − β1^t) · m / (√v / √(1 − β2^t) +
// ε) AdamW first sets p ← p·(1 − lr·weight_decay) and does not change g.
template <class T>
bool Adam(const Update<T>& u, Parallel* parallel) {
  using V = Vec<T>;
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
  return Sweep<T, 2>(u, parallel, [=](V p, V g, V* slots) {
    V& m = slots[0];
    V& v = slots[1];
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * g * g;
    return p * kept - step_size * m / (Sqrt<T>(v) / root_correction2 + epsilon);
  });
}

// v ← α·v + (1 − α)·g²;  if centered, c ← α·c + (1 − α)·g and v − c² stands for v;
// d = g / (√v + ε);  p ← p − lr·d, or with momentum b ← momentum·b + d; p ← p − lr·b
template <class T, bool kMomentum, bool kCentered>
bool RmsPropOf(const Update<T>& u, Parallel* parallel) {
  using V = Vec<T>;
  const OptimizerSpec& spec = u.spec;
  const T lr = static_cast<T>(u.learning_rate);
  const T alpha = static_cast<T>(spec.alpha);
  const T rest = static_cast<T>(1 - spec.alpha);
  const T momentum = static_cast<T>(spec.momentum);
  const T epsilon = static_cast<T>(spec.epsilon);
  return Sweep<T, 1 + kMomentum + kCentered>(u, parallel, [=](V p, V g, V* slots) {
    V& v = slots[0];
    v = alpha * v + rest * g * g;
    V variance = v;
    if constexpr (kCentered) {
      V& c = slots[1 + kMomentum];
      c = alpha * c + rest * g;
      variance = v - c * c;
      // Rounding can make it negative; NaN is kept.
      variance = variance < 0 ? V{} : variance;
    }
    V d = g / (Sqrt<T>(variance) + epsilon);
    if constexpr (kMomentum) {
      d += momentum * slots[1];
      slots[1] = d;
    }
    return p - lr * d;
  });
}

template <class T>
bool RmsProp(const Update<T>& u, Parallel* parallel) {
  if (u.spec.momentum > 0) {
    return u.spec.centered ? RmsPropOf<T, true, true>(u, parallel)
                           : RmsPropOf<T, true, false>(u, parallel);
  }
  return u.spec.centered ? RmsPropOf<T, false, true>(u, parallel)
                         : RmsPropOf<T, false, false>(u, parallel);
}

// v ← v + g²;  p ← p − lr / (1 + (t − 1)·lr_decay) · g / (√v + ε)
template <class T>
bool Adagrad(const Update<T>& u, Parallel* parallel) {
  using V = Vec<T>;
  const T rate =
      static_cast<T>(u.learning_rate / (1 + static_cast<double>(u.t - 1) * u.spec.lr_decay));
  const T epsilon = static_cast<T>(u.spec.epsilon);
  return Sweep<T, 1>(u, parallel, [=](V p, V g, V* slots) {
    V& v = slots[0];
    v = v + g * g;
    return p - rate * g / (Sqrt<T>(v) + epsilon);
  });
}

// Σ (g + l1·sign p)²
template <class T>
double SumOfSquares(const T* g, const T* p, T l1, int64_t first, int64_t end) {
  WideSum<T> sums[2];
  int64_t i = first;
  const auto add = [&](WideSum<T>* sum, Vec<T> x, Vec<T> at) {
    sum->AddSquare(l1 == 0 ? x : Penalized<T>(x, at, l1));
  };
  for (; i + 2 * kLanes<T> <= end; i += 2 * kLanes<T>) {
    add(&sums[0], Load<T>(g + i), Load<T>(p + i));
    add(&sums[1], Load<T>(g + i + kLanes<T>), Load<T>(p + i + kLanes<T>));
  }
  for (; i < end; i += kLanes<T>) {
    const int64_t count = std::min(kLanes<T>, end - i);
    add(&sums[0], LoadPart<T>(g + i, count), LoadPart<T>(p + i, count));
  }
  return sums[0].Total() + sums[1].Total();
}

}  // namespace

template <class T>
double GradientNorm(const T* gradients, const T* parameters, double l1, int64_t P,
                    double* partial_sums, Parallel* parallel) {
  const auto sum_part = [&](int64_t part) {
    return SumOfSquares<T>(gradients, parameters, static_cast<T>(l1), part * kPart,
                           std::min(P, (part + 1) * kPart));
  };
  if (P <= kPart) return std::sqrt(sum_part(0));
  parallel->For(PartsOf(P), [&](int64_t part) { partial_sums[part] = sum_part(part); });
  double sum = 0;
  for (int64_t part = 0; part < PartsOf(P); ++part) sum += partial_sums[part];
  return std::sqrt(sum);
}

int64_t NormPartialSums(int64_t P) { return P <= kPart ? 0 : PartsOf(P); }

template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients, double norm,
                    double learning_rate, Parallel* parallel, State* out) {
  constexpr double kClipEpsilon = 1e-6;  // as in clip_grad_norm_
  assert(&in != out);
  out->step = in.step + 1;
  out->optimizer_step = in.optimizer_step + 1;
  out->plateau = in.plateau;
  if (out->standardization != in.standardization) out->standardization = in.standardization;
  const OptimizerSpec& spec = network.spec().optimizer;
  const bool by_norm = spec.clipping == Clipping::kNorm;
  const bool by_value = spec.clipping == Clipping::kValue;
  const double scale = by_norm ? std::min(1.0, spec.clip / (norm + kClipEpsilon)) : 1;
  const Update<T> update = {
      spec,
      network.parameter_count(),
      out->optimizer_step,
      learning_rate,
      static_cast<T>(scale),
      by_value ? static_cast<T>(spec.clip) : std::numeric_limits<T>::infinity(),
      in.values.as<T>().data(),
      gradients,
      out->values.as<T>().data()};
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return Sgd(update, parallel);
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return Adam(update, parallel);
    case OptimizerKind::kRmsProp:
      return RmsProp(update, parallel);
    case OptimizerKind::kAdagrad:
      return Adagrad(update, parallel);
  }
  return false;
}

template double GradientNorm(const float*, const float*, double, int64_t, double*, Parallel*);
template double GradientNorm(const double*, const double*, double, int64_t, double*, Parallel*);
template bool ApplyGradients(const Network&, const State&, const float*, double, double, Parallel*,
                             State*);
template bool ApplyGradients(const Network&, const State&, const double*, double, double, Parallel*,
                             State*);

}  // namespace backprop::engine
