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

// A view of n consecutive rows; does not own them. Either `classes` or `targets` is set; both are
// null if only a forward pass is made.
struct BatchView {
  int64_t rows = 0;                           // n ≥ 1
  const std::byte* inputs = nullptr;          // (n, d)
  const int32_t* classes = nullptr;           // (n), in [0, k); with one binary output 0 or 1
  const std::byte* targets = nullptr;         // (n, k)
  const std::byte* sample_weights = nullptr;  // (n), ≥ 0; null: all 1
};

// Rows with their memory. Valid by construction: values finite, classes in range, weights ≥ 0.
struct Dataset {
  int64_t rows = 0;
  int64_t inputs_per_row = 0;    // d
  int64_t targets_per_row = 0;   // k
  Buffer inputs;                 // (n, d)
  std::vector<int32_t> classes;  // (n) or empty
  Buffer targets;                // (n, k) or empty
  Buffer sample_weights;         // (n), or empty: all 1

  // Returns a view of rows [first, first + count). Valid while the dataset is not changed.
  BatchView View(int64_t first, int64_t count) const;
  BatchView All() const { return View(0, rows); }

  int64_t size_bytes() const {
    return static_cast<int64_t>(inputs.size_bytes() + targets.size_bytes() +
                                sample_weights.size_bytes() + classes.size() * sizeof(int32_t));
  }

  // Returns a copy of the rows in another precision.
  Dataset ConvertTo(DataType type) const;
};

// Returns a dataset of `rows` zero rows with the columns and precision of `source`, as a
// destination for Gather().
Dataset EmptyLike(const Dataset& source, int64_t rows);

// Copies rows order[0], order[1], … of `source` to the first rows of `out`, which must have room.
void Gather(const Dataset& source, std::span<const int32_t> order, Dataset* out);

// All or some rows of a dataset, without a copy of the rows. Cheap to copy. Immutable.
class RowSet {
 public:
  RowSet() = default;
  explicit RowSet(std::shared_ptr<const Dataset> data) : data_(std::move(data)) {}
  // `data` must outlive the set. Implicit, because a dataset is the set of all its rows.
  // NOLINTNEXTLINE(google-explicit-constructor)
  RowSet(const Dataset& data) : data_(std::shared_ptr<const Dataset>(), &data) {}
  // The rows of `data` with the indices `rows`, in that order.
  RowSet(std::shared_ptr<const Dataset> data, std::vector<int32_t> rows)
      : data_(std::move(data)),
        rows_(std::make_shared<const std::vector<int32_t>>(std::move(rows))) {}

  const Dataset& data() const { return *data_; }
  int64_t rows() const {
    if (data_ == nullptr) return 0;
    return rows_ != nullptr ? static_cast<int64_t>(rows_->size()) : data_->rows;
  }
  // Index in the dataset of the i-th row of the set.
  int64_t At(int64_t i) const { return rows_ != nullptr ? (*rows_)[static_cast<size_t>(i)] : i; }
  // Replaces indices into the set by indices into the dataset.
  void Resolve(std::span<int32_t> rows) const;
  // Returns a view of rows [first, first + count) of the set. The view refers to the dataset if the
  // set holds all rows, otherwise to copies in `gathered`, which grows as needed.
  BatchView View(int64_t first, int64_t count, Dataset* gathered) const;

 private:
  std::shared_ptr<const Dataset> data_;
  std::shared_ptr<const std::vector<int32_t>> rows_;  // null: all rows
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_DATA_H_
