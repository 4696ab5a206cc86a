// Rows that are held out of training to validate with.
#ifndef BACKPROP_SERVER_ENGINE_SPLIT_H_
#define BACKPROP_SERVER_ENGINE_SPLIT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/engine/data.h"

namespace backprop::engine {

// Which rows are held out is a function of the plan and the data alone.
struct SplitPlan {
  double share = 0.1;  // in (0, 1)
  uint64_t seed = 0;
  uint64_t index = 0;     // 0 gives every run the same rows; the step count gives each its own
  bool stratify = false;  // keep the proportions of the classes, where rows have classes
};

// Both parts keep the order of the rows.
struct Split {
  RowSet training;
  RowSet validation;
};

// Holds out m = ValidationRows(n, share) rows, which must be fewer than n: the first m of the order
// drawn from RandomStream(seed, kValidationSplit, index). Stratified: the first HeldOutOfClasses of
// each class in that order.
Split SplitForValidation(const std::shared_ptr<const Dataset>& data, const SplitPlan& plan);

// ⌈share·rows⌉.
int64_t ValidationRows(int64_t rows, double share);

// How many rows of each class are held out, `held_out` in all: as close to its share of the rows as
// whole rows allow. `rows` counts the rows of each class; held_out is in [0, their sum]. A class of
// two rows or more has rows on both sides, and one of a single row is trained on, where held_out
// leaves room for that. docs/numerics.md says how it is rounded.
std::vector<int64_t> HeldOutOfClasses(const std::vector<int64_t>& rows, int64_t held_out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SPLIT_H_
