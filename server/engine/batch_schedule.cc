#include "server/engine/batch_schedule.h"

#include <algorithm>
#include <span>
#include <utility>

#include "server/engine/random.h"

namespace backprop::engine {

BatchSchedule::BatchSchedule(const BatchPlan& plan, RowSet rows)
    : plan_(plan),
      rows_(std::move(rows)),
      iterations_per_epoch_(BatchesPerEpoch(rows_.rows(), plan.batch_size)) {
  if (!plan_.shuffle) return;
  order_.resize(static_cast<size_t>(rows_.rows()));
  gathered_ = EmptyLike(rows_.data(), plan_.batch_size);
}

BatchView BatchSchedule::Batch(int64_t iteration) {
  const int64_t epoch = iteration / iterations_per_epoch_;
  const int64_t first = iteration % iterations_per_epoch_ * plan_.batch_size;
  const int64_t count = std::min(plan_.batch_size, rows_.rows() - first);
  if (!plan_.shuffle) return rows_.View(first, count, &gathered_);
  if (epoch != epoch_) {
    const auto epoch_step = static_cast<uint64_t>(plan_.start_step + epoch * iterations_per_epoch_);
    Permutation(RandomStream(plan_.seed, RandomPurpose::kShuffle, epoch_step), order_);
    rows_.Resolve(order_);
    epoch_ = epoch;
  }
  Gather(rows_.data(),
         std::span(order_).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
         &gathered_);
  return gathered_.View(0, count);
}

}  // namespace backprop::engine
