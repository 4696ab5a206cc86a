// Where a run left its epoch, so that the next run can continue it.
#ifndef BACKPROP_SERVER_RECORDS_UNFINISHED_EPOCH_H_
#define BACKPROP_SERVER_RECORDS_UNFINISHED_EPOCH_H_

#include <cstdint>
#include <memory>

#include "server/engine/loss.h"

namespace backprop::records {

// Settings that determine the rows of each batch of an epoch, in addition to the dataset and the
// step count at the beginning of the epoch.
struct EpochPlan {
  int64_t rows = 0;  // including those that a split holds out
  int64_t batch_size = 0;
  bool shuffle = false;
  double validation_split = 0;
  bool redraw_split = false;
  bool stratify = false;

  bool operator==(const EpochPlan&) const = default;
};

struct UnfinishedEpoch {
  int64_t batches = 0;      // made in this epoch, ≥ 1; it began that many steps before `step`
  engine::LossResult loss;  // of these batches
  int64_t step = 0;         // the model's step count when the run ended
  EpochPlan plan;

  // Whether a run with plan `other`, on a model at `model_step`, can make the next batch. Never if
  // the split is redrawn for each run.
  bool Fits(const EpochPlan& other, int64_t model_step) const {
    return plan == other && !other.redraw_split && step == model_step;
  }
};
using UnfinishedEpochPtr = std::shared_ptr<const UnfinishedEpoch>;

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_UNFINISHED_EPOCH_H_
