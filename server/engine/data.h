// Rows of data in a model's precision.
#ifndef BACKPROP_SERVER_ENGINE_DATA_H_
#define BACKPROP_SERVER_ENGINE_DATA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "server/engine/buffer.h"

namespace backprop::engine {

// n consecutive rows, owned by someone else. What is wanted is either classes or targets; both are
// null for a forward pass alone.
struct BatchView {
  int64_t rows = 0;                           // n ≥ 1
  const std::byte* inputs = nullptr;          // (n, d)
  const int32_t* classes = nullptr;           // (n), in [0, k); for one binary output 0 or 1
  const std::byte* targets = nullptr;         // (n, k)
  const std::byte* sample_weights = nullptr;  // (n), ≥ 0, or null for ones
};

// Rows that own their memory. Valid by construction: finite, classes in range, weights ≥ 0.
struct Dataset {
  int64_t rows = 0;
  int64_t inputs_per_row = 0;    // d
  int64_t targets_per_row = 0;   // k
  Buffer inputs;                 // (n, d)
  std::vector<int32_t> classes;  // (n) or empty
  Buffer targets;                // (n, k) or empty
  Buffer sample_weights;         // (n) or empty for ones

  // Rows [first, first + count).
  BatchView View(int64_t first, int64_t count) const;
  BatchView All() const { return View(0, rows); }

  int64_t size_bytes() const {
    return static_cast<int64_t>(inputs.size_bytes() + targets.size_bytes() +
                                sample_weights.size_bytes() + classes.size() * sizeof(int32_t));
  }

  // The same rows in another precision.
  Dataset ConvertTo(DataType type) const;
};

// A fresh dataset of the same kind for `rows` rows, to gather into.
Dataset EmptyLike(const Dataset& source, int64_t rows);

// Copies the rows order[0], order[1], … of `source` to the first rows of `out`.
void Gather(const Dataset& source, std::span<const int32_t> order, Dataset* out);

// All rows of a dataset, or some of them, without a copy. Cheap to copy.
class RowSet {
 public:
  RowSet() = default;
  explicit RowSet(std::shared_ptr<const Dataset> data) : data_(std::move(data)) {}
  // `data` must outlive the set. Implicit: a dataset is the set of all its rows.
  // NOLINTNEXTLINE(google-explicit-constructor)
  RowSet(const Dataset& data) : data_(std::shared_ptr<const Dataset>(), &data) {}
  // Those with the numbers `rows`, in that order.
  RowSet(std::shared_ptr<const Dataset> data, std::vector<int32_t> rows)
      : data_(std::move(data)),
        rows_(std::make_shared<const std::vector<int32_t>>(std::move(rows))) {}

  const Dataset& data() const { return *data_; }
  int64_t rows() const {
    if (data_ == nullptr) return 0;
    return rows_ != nullptr ? static_cast<int64_t>(rows_->size()) : data_->rows;
  }
  // The number of the i-th row in the dataset.
  int64_t At(int64_t i) const { return rows_ != nullptr ? (*rows_)[static_cast<size_t>(i)] : i; }
  // Makes numbers of rows in the set those in the dataset.
  void Resolve(std::span<int32_t> rows) const;
  // Rows [first, first + count), in the dataset or copied to `gathered`, which is made larger if
  // need be.
  BatchView View(int64_t first, int64_t count, Dataset* gathered) const;

 private:
  std::shared_ptr<const Dataset> data_;
  std::shared_ptr<const std::vector<int32_t>> rows_;  // null: all
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_DATA_H_
