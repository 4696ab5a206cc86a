// Between Tensor messages and the engine's memory.
#ifndef BACKPROP_SERVER_CODEC_TENSOR_CODEC_H_
#define BACKPROP_SERVER_CODEC_TENSOR_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/tensor.pb.h"
#include "server/engine/buffer.h"

namespace backprop::codec {

// What a matrix in a request must be like.
struct MatrixRules {
  std::string field;                                       // its path, such as "batch.inputs"
  int64_t rows = kAnyRows;                                 // wanted rows
  int64_t cols = 1;                                        // wanted columns
  int64_t max_rows = 0;                                    // with kAnyRows: the server's limit
  engine::DataType type;                                   // wanted precision
  const std::vector<std::string>* column_names = nullptr;  // for errors; null or empty: none
  bool is_data = false;    // what a caller measured: refused if it looks big-endian (byte_order.h)
  bool is_vector = false;  // one row or column: errors count its elements by one index

  static constexpr int64_t kAnyRows = -1;
};

struct Matrix {
  int64_t rows = 0;
  engine::Buffer elements;  // (rows, cols)
};

// Checks shape, size and finiteness before and after the one copy into aligned memory; allocates
// no more than the message's own size, at most twice (float32 to float64). A vector is a matrix of
// one row, or of one column where cols is 1. INVALID_ARGUMENT, or RESOURCE_EXHAUSTED for max_rows.
absl::StatusOr<Matrix> DecodeMatrix(const v1::Tensor& tensor, const MatrixRules& rules);

// Whole numbers in [0, classes), shape [n]; `rows` as above.
absl::StatusOr<std::vector<int32_t>> DecodeClasses(const v1::Tensor& tensor,
                                                   absl::string_view field, int64_t classes,
                                                   int64_t rows);

// Writes elements of the given precision and shape in the given form.
void EncodeTensor(const std::byte* elements, engine::DataType type,
                  const std::vector<int64_t>& shape, v1::TensorEncoding encoding, v1::Tensor* out);

// The form in which a request's tensor came.
v1::TensorEncoding EncodingOf(const v1::Tensor& tensor);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_TENSOR_CODEC_H_
