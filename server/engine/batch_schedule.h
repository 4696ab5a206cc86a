// Which rows each iteration of a run sees.
#ifndef BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_
#define BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "server/engine/data.h"

namespace backprop::engine {

struct BatchPlan {
  int64_t batch_size = 1;  // in [1, rows of the data]
  bool shuffle = false;
  uint64_t seed = 0;       // of the shuffles
  int64_t start_step = 0;  // the model's step count before the run
};

// Iteration i of a run sees a batch that is a pure function of the plan, the data and i: the
// epoch's order is a permutation of the rows drawn from RandomStream(seed, kShuffle, s), where s is
// the model's step count at the beginning of that epoch. Thread-compatible.
class BatchSchedule {
 public:
  BatchSchedule(const BatchPlan& plan, RowSet rows);

  int64_t iterations_per_epoch() const { return iterations_per_epoch_; }

  // The batch of an iteration, from 0. Valid until the next call. Allocates on the first call only.
  BatchView Batch(int64_t iteration);

 private:
  BatchPlan plan_;
  const RowSet rows_;
  int64_t iterations_per_epoch_;
  int64_t epoch_ = -1;          // whose order is in order_
  std::vector<int32_t> order_;  // empty without shuffle
  Dataset gathered_;
};

// Batches needed for one pass over `rows`, the last one possibly smaller.
constexpr int64_t BatchesPerEpoch(int64_t rows, int64_t batch_size) {
  return (rows + batch_size - 1) / batch_size;
}

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_BATCH_SCHEDULE_H_
