// Tensors and batches of data.
#ifndef BACKPROP_CLIENT_TENSOR_H_
#define BACKPROP_CLIENT_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

namespace backprop {

// Precision of a model and of the numbers of a tensor.
enum class DataType { kFloat32, kFloat64 };

// A row-major matrix of float or double, stored as little-endian bytes as in the API. A vector is a
// matrix of one row.
class Tensor {
 public:
  Tensor() = default;  // empty
  // `values` must hold rows·cols numbers.
  Tensor(int64_t rows, int64_t cols, const std::vector<float>& values);
  Tensor(int64_t rows, int64_t cols, const std::vector<double>& values);
  // From rows·cols little-endian numbers of `type`.
  Tensor(int64_t rows, int64_t cols, DataType type, std::string bytes)
      : rows_(rows), cols_(cols), type_(type), bytes_(std::move(bytes)) {}

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool empty() const { return bytes_.empty(); }
  DataType type() const { return type_; }
  const std::string& bytes() const { return bytes_; }

  // Returns one number. Requires row < rows() and col < cols().
  double at(int64_t row, int64_t col) const;
  // Returns all numbers, row by row. Exact for both types.
  std::vector<double> ToDoubles() const;

  friend bool operator==(const Tensor&, const Tensor&) = default;

 private:
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  DataType type_ = DataType::kFloat32;
  std::string bytes_;
};

// Rows of data. Exactly one of labels, label_names and targets is set.
struct Batch {
  Tensor inputs{};                         // (n, d)
  std::vector<int32_t> labels{};           // n class indices
  std::vector<std::string> label_names{};  // n class names
  Tensor targets{};                        // (n, k)
  std::vector<double> sample_weights{};    // n numbers ≥ 0; empty: all 1
};

// Returns rows [first, first + count) of a batch.
Batch Rows(const Batch& batch, int64_t first, int64_t count);

}  // namespace backprop

#endif  // BACKPROP_CLIENT_TENSOR_H_
