// The reference's optimisers and schedules, one parameter at a time.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/engine/reference.h"

namespace backprop::reference {
namespace {

using engine::OptimizerKind;
using engine::ScheduleKind;

void ApplyOne(const engine::OptimizerSpec& spec, int t, double lr, double g, double* p, double* s1,
              double* s2, double* s3) {
  if (spec.kind == OptimizerKind::kAdamW) {
    *p -= lr * spec.weight_decay * *p;
  } else {
    g += spec.weight_decay * *p;
  }
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      *s1 = spec.momentum * *s1 + g;
      *p -= lr * (spec.nesterov ? g + spec.momentum * *s1 : *s1);
      return;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW: {
      *s1 = spec.beta1 * *s1 + (1 - spec.beta1) * g;
      *s2 = spec.beta2 * *s2 + (1 - spec.beta2) * g * g;
      const double m_hat = *s1 / (1 - std::pow(spec.beta1, t));
      const double v_hat = *s2 / (1 - std::pow(spec.beta2, t));
      *p -= lr * m_hat / (std::sqrt(v_hat) + spec.epsilon);
      return;
    }
    case OptimizerKind::kRmsProp: {
      *s1 = spec.alpha * *s1 + (1 - spec.alpha) * g * g;
      *s3 = spec.alpha * *s3 + (1 - spec.alpha) * g;
      const double variance = spec.centered ? std::max(*s1 - *s3 * *s3, 0.0) : *s1;
      *s2 = spec.momentum * *s2 + g / (std::sqrt(variance) + spec.epsilon);
      *p -= lr * *s2;
      return;
    }
    case OptimizerKind::kAdagrad:
      *s1 += g * g;
      *p -= lr / (1 + (t - 1) * spec.lr_decay) * g / (std::sqrt(*s1) + spec.epsilon);
      return;
  }
}

}  // namespace

double LearningRate(const engine::OptimizerSpec& spec, const Optimizer& optimizer) {
  const engine::ScheduleSpec& s = spec.schedule;
  const double base = spec.learning_rate;
  const double t = optimizer.t;
  const auto warmup = static_cast<double>(s.warmup_steps);
  if (t < warmup) return base * (s.warmup_start_factor + (1 - s.warmup_start_factor) * t / warmup);
  const double u = t - warmup;
  switch (s.kind) {
    case ScheduleKind::kConstant:
      return base;
    case ScheduleKind::kStep:
      return base * std::pow(s.gamma, std::floor(u / static_cast<double>(s.step_size)));
    case ScheduleKind::kExponential:
      return base * std::pow(s.gamma, u);
    case ScheduleKind::kCosine:
      return s.min_learning_rate +
             (base - s.min_learning_rate) / 2 *
                 (1 + std::cos(std::numbers::pi * u / static_cast<double>(s.total_steps)));
    case ScheduleKind::kReduceOnPlateau:
      return optimizer.plateau_rate == 0 ? base : optimizer.plateau_rate;
  }
  return 0;
}

void Apply(const engine::OptimizerSpec& spec, std::vector<double> grads,
           std::vector<double>* parameters, Optimizer* optimizer) {
  const size_t P = parameters->size();
  if (optimizer->slot1.empty()) {
    optimizer->slot1.assign(
        P, spec.kind == OptimizerKind::kAdagrad ? spec.initial_accumulator_value : 0);
    optimizer->slot2.assign(P, 0);
    optimizer->slot3.assign(P, 0);
  }
  double squares = 0;
  for (size_t i = 0; i < P; ++i) {
    const double p = (*parameters)[i];
    grads[i] += spec.l1 * (p > 0 ? 1 : p < 0 ? -1 : 0);
    squares += grads[i] * grads[i];
  }
  const double norm_share = spec.clipping == engine::Clipping::kNorm
                                ? std::min(1.0, spec.clip / (std::sqrt(squares) + 1e-6))
                                : 1;
  const double lr = LearningRate(spec, *optimizer);
  ++optimizer->t;
  for (size_t i = 0; i < P; ++i) {
    double g = grads[i] * norm_share;
    if (spec.clipping == engine::Clipping::kValue) g = std::min(std::max(g, -spec.clip), spec.clip);
    ApplyOne(spec, optimizer->t, lr, g, &(*parameters)[i], &optimizer->slot1[i],
             &optimizer->slot2[i], &optimizer->slot3[i]);
  }
}

void Measure(const engine::OptimizerSpec& spec, double loss, Optimizer* o) {
  const engine::ScheduleSpec& s = spec.schedule;
  if (s.kind != ScheduleKind::kReduceOnPlateau || o->t < s.warmup_steps) return;
  if (o->plateau_rate == 0) {
    o->plateau_rate = spec.learning_rate;
    o->plateau_best = HUGE_VAL;
  }
  const bool better = loss < o->plateau_best * (1 - s.threshold);
  o->plateau_bad = better ? 0 : o->plateau_bad + 1;
  if (better) o->plateau_best = loss;
  if (o->plateau_cooldown > 0) {
    --o->plateau_cooldown;
    o->plateau_bad = 0;
  }
  if (o->plateau_bad <= s.patience) return;
  const double next = std::max(o->plateau_rate * s.factor, s.min_learning_rate);
  if (o->plateau_rate - next > 1e-8) o->plateau_rate = next;
  o->plateau_cooldown = static_cast<int>(s.cooldown);
  o->plateau_bad = 0;
}

}  // namespace backprop::reference
