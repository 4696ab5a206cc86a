// Converts between Tensor messages and the engine's memory.
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

// Requirements for a matrix in a request.
struct MatrixRules {
  std::string field;                                       // its path, such as "batch.inputs"
  int64_t rows = kAnyRows;                                 // required rows
  int64_t cols = 1;                                        // required columns
  int64_t max_rows = 0;                                    // with kAnyRows: the server's limit
  engine::DataType type;                                   // precision of the result
  const std::vector<std::string>* column_names = nullptr;  // for errors; null or empty: none
  bool is_data = false;    // of rows, not a model: rejected if it looks big-endian (byte_order.h)
  bool is_vector = false;  // one row or column: errors name an element by one index

  static constexpr int64_t kAnyRows = -1;
};

struct Matrix {
  int64_t rows = 0;
  engine::Buffer elements;  // (rows, cols)
};

// Checks the form, shape and size of the tensor, then copies its elements once into aligned memory
// and checks that each is finite in the precision of the result. Allocates at most the size of the
// message, or twice that when it converts float32 to float64. A tensor of one dimension is a matrix
// of one row, or of one column if cols is 1. INVALID_ARGUMENT, with field paths that start with
// rules.field; RESOURCE_EXHAUSTED for more than max_rows rows.
absl::StatusOr<Matrix> DecodeMatrix(const v1::Tensor& tensor, const MatrixRules& rules);

// Decodes `rows` class indices: whole numbers in [0, classes). INVALID_ARGUMENT about `field`, also
// if the tensor looks big-endian.
absl::StatusOr<std::vector<int32_t>> DecodeClasses(const v1::Tensor& tensor,
                                                   absl::string_view field, int64_t classes,
                                                   int64_t rows);

// Writes elements of precision `type`: as raw bytes for TENSOR_ENCODING_RAW, otherwise as values.
// `elements` needs no alignment.
void EncodeTensor(const std::byte* elements, engine::DataType type,
                  const std::vector<int64_t>& shape, v1::TensorEncoding encoding, v1::Tensor* out);

// The encoding of a tensor in a request: RAW if it has raw bytes, otherwise VALUES.
v1::TensorEncoding EncodingOf(const v1::Tensor& tensor);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_TENSOR_CODEC_H_
