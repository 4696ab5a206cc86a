// The learning rate as a function of the optimiser's steps. Formulas are PyTorch's schedulers';
// a warm-up is its LinearLR, put before the rest by its SequentialLR.
#ifndef BACKPROP_SERVER_ENGINE_SCHEDULE_H_
#define BACKPROP_SERVER_ENGINE_SCHEDULE_H_

#include <cstdint>
#include <limits>

#include "server/engine/spec.h"

namespace backprop::engine {

// What ReduceOnPlateau remembers.
struct PlateauState {
  double learning_rate = 0;  // after the warm-up
  double best = std::numeric_limits<double>::infinity();
  int64_t bad_epochs = 0;
  int64_t cooldown = 0;  // measurements still to be passed over
};

PlateauState InitialPlateau(const OptimizerSpec& optimizer);

// The learning rate of the step that follows `steps` made ones. With u = steps − warmup_steps and
// η the optimiser's learning_rate:
//   warm-up (u < 0)  η·(f + (1 − f)·steps / warmup_steps),  f = warmup_start_factor
//   constant         η
//   step             η·γ^⌊u / step_size⌋
//   exponential      η·γ^u
//   cosine           η_min + (η − η_min)·(1 + cos(π·u / total_steps)) / 2
//   plateau          plateau.learning_rate
double LearningRate(const OptimizerSpec& optimizer, int64_t steps, const PlateauState& plateau);

// The state after one more measurement of the loss that is to fall, made after `steps` steps; it
// changes nothing for other schedules and during the warm-up.
PlateauState AfterMeasurement(const OptimizerSpec& optimizer, int64_t steps, PlateauState plateau,
                              double loss);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SCHEDULE_H_
