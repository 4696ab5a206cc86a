// The rows of each iteration of a training run.
#ifndef BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_
#define BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "server/engine/data.h"

namespace backprop::engine {

struct BatchPlan {
  int64_t batch_size = 1;  // in [1, rows of the data]
  bool shuffle = false;
  uint64_t seed = 0;       // seed of the shuffles
  int64_t start_step = 0;  // the model's step count before the run
};

// The batch of iteration i is a pure function of the plan, the data and i. With shuffling, the
// order of an epoch is a permutation of the rows drawn from RandomStream(seed, kShuffle, s), where
// s is the model's step count at the start of that epoch. Thread-compatible.
class BatchSchedule {
 public:
  BatchSchedule(const BatchPlan& plan, RowSet rows);

  int64_t iterations_per_epoch() const { return iterations_per_epoch_; }

  // Returns the batch of `iteration`, which counts from 0. The view is valid until the next call
  // and while the schedule exists. Memory is allocated on the first call only.
  BatchView Batch(int64_t iteration);

 private:
  BatchPlan plan_;
  const RowSet rows_;
  int64_t iterations_per_epoch_;
  int64_t epoch_ = -1;          // the epoch that order_ belongs to
  std::vector<int32_t> order_;  // empty without shuffle
  Dataset gathered_;
};

// Returns the number of batches in one pass over `rows`; the last batch may be smaller.
constexpr int64_t BatchesPerEpoch(int64_t rows, int64_t batch_size) {
  return (rows + batch_size - 1) / batch_size;
}

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_
