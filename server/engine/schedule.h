// The learning rate as a function of the optimiser's steps. Formulas are those of PyTorch's
// schedulers; the warm-up is LinearLR, chained by SequentialLR.
#ifndef BACKPROP_SERVER_ENGINE_SCHEDULE_H_
#define BACKPROP_SERVER_ENGINE_SCHEDULE_H_

#include <cstdint>
#include <limits>

#include "server/engine/spec.h"

namespace backprop::engine {

// The state of ReduceOnPlateau.
struct PlateauState {
  double learning_rate = 0;  // once the warm-up has ended
  double best = std::numeric_limits<double>::infinity();
  int64_t bad_epochs = 0;
  int64_t cooldown = 0;  // measurements still to be ignored
};

PlateauState InitialPlateau(const OptimizerSpec& optimizer);

// Returns the learning rate of the step that follows `steps` completed steps. With u = steps −
// warmup_steps and η the optimiser's learning_rate:
//   warm-up (u < 0)  η·(f + (1 − f)·steps / warmup_steps),  f = warmup_start_factor
//   constant         η
//   step             η·γ^⌊u / step_size⌋
//   exponential      η·γ^u
//   cosine           η_min + (η − η_min)·(1 + cos(π·u / total_steps)) / 2
//   plateau          plateau.learning_rate
double LearningRate(const OptimizerSpec& optimizer, int64_t steps, const PlateauState& plateau);

// Returns the state after one more measurement of the loss to be minimised, made after `steps`
// steps. It is unchanged during the warm-up and with other schedules.
PlateauState AfterMeasurement(const OptimizerSpec& optimizer, int64_t steps, PlateauState plateau,
                              double loss);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SCHEDULE_H_
