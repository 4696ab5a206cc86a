// The split of a dataset into training and validation rows.
#ifndef BACKPROP_SERVER_ENGINE_SPLIT_H_
#define BACKPROP_SERVER_ENGINE_SPLIT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/engine/data.h"

namespace backprop::engine {

// The validation rows are a pure function of the plan and the data.
struct SplitPlan {
  double share = 0.1;  // in (0, 1)
  uint64_t seed = 0;
  uint64_t index = 0;     // 0: the same rows in every run; the step count: other rows in each
  bool stratify = false;  // keep the proportions of the classes, if rows have classes
};

// Rows keep their order in both parts.
struct Split {
  RowSet training;
  RowSet validation;
};

// Selects m = ValidationRows(n, share) validation rows; m must be less than n. They are the first m
// of the order drawn from RandomStream(seed, kValidationSplit, index); if stratified, the first
// HeldOutOfClasses() rows of each class in that order.
Split SplitForValidation(const std::shared_ptr<const Dataset>& data, const SplitPlan& plan);

// ⌈share·rows⌉.
int64_t ValidationRows(int64_t rows, double share);

// Returns how many rows of each class are validation rows, `held_out` in total: as close to the
// class's share of the rows as whole rows allow. `rows` counts the rows of each class; held_out is
// in [0, their sum]. If held_out permits, a class of at least two rows has rows in both parts, and
// a class of one row has it in training. docs/numerics.md describes the rounding.
std::vector<int64_t> HeldOutOfClasses(const std::vector<int64_t>& rows, int64_t held_out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_SPLIT_H_
