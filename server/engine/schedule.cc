#include "server/engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace backprop::engine {

PlateauState InitialPlateau(const OptimizerSpec& optimizer) {
  PlateauState plateau;
  plateau.learning_rate = optimizer.learning_rate;
  return plateau;
}

double LearningRate(const OptimizerSpec& optimizer, int64_t steps, const PlateauState& plateau) {
  const ScheduleSpec& schedule = optimizer.schedule;
  const double eta = optimizer.learning_rate;
  if (steps < schedule.warmup_steps) {
    const double f = schedule.warmup_start_factor;
    return eta *
           (f + (1 - f) * static_cast<double>(steps) / static_cast<double>(schedule.warmup_steps));
  }
  const int64_t u = steps - schedule.warmup_steps;
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return eta;
    case ScheduleKind::kStep: {
      const int64_t falls = u / schedule.step_size;
      return eta * std::pow(schedule.gamma, static_cast<double>(falls));
    }
    case ScheduleKind::kExponential:
      return eta * std::pow(schedule.gamma, static_cast<double>(u));
    case ScheduleKind::kCosine: {
      const double part = static_cast<double>(u) / static_cast<double>(schedule.total_steps);
      const double low = schedule.min_learning_rate;
      return low + (eta - low) * (1 + std::cos(std::numbers::pi * part)) / 2;
    }
    case ScheduleKind::kReduceOnPlateau:
      return plateau.learning_rate;
  }
  return eta;
}

// PyTorch's ReduceLROnPlateau.step with mode "min" and threshold_mode "rel".
PlateauState AfterMeasurement(const OptimizerSpec& optimizer, int64_t steps, PlateauState plateau,
                              double loss) {
  constexpr double kLeastChange = 1e-8;  // PyTorch's eps
  const ScheduleSpec& schedule = optimizer.schedule;
  if (schedule.kind != ScheduleKind::kReduceOnPlateau || steps < schedule.warmup_steps) {
    return plateau;
  }
  if (loss < plateau.best * (1 - schedule.threshold)) {
    plateau.best = loss;
    plateau.bad_epochs = 0;
  } else {
    ++plateau.bad_epochs;
  }
  if (plateau.cooldown > 0) {
    --plateau.cooldown;
    plateau.bad_epochs = 0;
  }
  if (plateau.bad_epochs > schedule.patience) {
    const double next =
        std::max(plateau.learning_rate * schedule.factor, schedule.min_learning_rate);
    if (plateau.learning_rate - next > kLeastChange) plateau.learning_rate = next;
    plateau.cooldown = schedule.cooldown;
    plateau.bad_epochs = 0;
  }
  return plateau;
}

}  // namespace backprop::engine
