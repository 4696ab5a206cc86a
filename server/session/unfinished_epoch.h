// Where a run left the epoch it was in, so that the next run can resume it.
#ifndef BACKPROP_SERVER_SESSION_UNFINISHED_EPOCH_H_
#define BACKPROP_SERVER_SESSION_UNFINISHED_EPOCH_H_

#include <cstdint>
#include <memory>

#include "server/engine/loss.h"

namespace backprop::session {

// What decides which rows the batches of an epoch hold, besides the rows themselves and the step
// count at which the epoch began.
struct EpochPlan {
  int64_t rows = 0;  // those included that a split holds out
  int64_t batch_size = 0;
  bool shuffle = false;
  double validation_split = 0;
  bool redraw_split = false;
  bool stratify = false;

  bool operator==(const EpochPlan&) const = default;
};

struct UnfinishedEpoch {
  int64_t batches = 0;  // of the epoch that are made, ≥ 1; it began so many steps before `step`
  engine::LossResult loss;  // of these
  int64_t step = 0;         // the model's step count when the run ended
  EpochPlan plan;

  // Whether a run of that plan on a model at that step can make the next batch. A split that is
  // drawn anew is never the same.
  bool Fits(const EpochPlan& other, int64_t model_step) const {
    return plan == other && !other.redraw_split && step == model_step;
  }
};
using UnfinishedEpochPtr = std::shared_ptr<const UnfinishedEpoch>;

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_UNFINISHED_EPOCH_H_
