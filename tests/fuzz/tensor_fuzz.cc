// Tensor messages. A part is one tensor; its kind says what it has to be:
//
//   bits 0-1  0: a matrix of any rows, 1: of 4 rows, 2: 4 classes, 3: a vector of 4
//   bits 2-3  columns, from 1
//   bit 4     the precision of the result
//   bit 5     whether the elements are data
//
// A matrix that was decoded equals itself after each way to encode it.
#include <cmath>
#include <cstring>

#include "backprop/v1/tensor.pb.h"
#include "server/codec/tensor_codec.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"

namespace backprop::fuzz {
namespace {

constexpr int64_t kRows = 4;

void CheckSame(const codec::Matrix& matrix, const codec::MatrixRules& rules,
               v1::TensorEncoding encoding) {
  v1::Tensor encoded;
  codec::EncodeTensor(matrix.elements.bytes(), rules.type, {matrix.rows, rules.cols}, encoding,
                      &encoded);
  const auto again = codec::DecodeMatrix(encoded, rules);
  BP_HOLDS(again.ok(), again.status().ToString());
  BP_HOLDS(again->rows == matrix.rows && again->elements.count() == matrix.elements.count());
  BP_HOLDS(std::memcmp(again->elements.bytes(), matrix.elements.bytes(),
                       matrix.elements.size_bytes()) == 0);
}

void DecodeOne(uint8_t kind, const v1::Tensor& tensor) {
  codec::MatrixRules rules;
  rules.field = "inputs";
  rules.cols = 1 + (kind >> 2 & 3);
  rules.type = (kind & 16) != 0 ? engine::DataType::kFloat64 : engine::DataType::kFloat32;
  rules.max_rows = SmallLimits().max_rows;
  rules.is_data = (kind & 32) != 0;
  if ((kind & 3) == 1) rules.rows = kRows;
  if ((kind & 3) == 3) {
    rules.is_vector = true;
    rules.rows = 1;
    rules.cols = kRows;
  }
  const auto matrix = codec::DecodeMatrix(tensor, rules);
  BP_HOLDS(IsVerdict(matrix.status()), matrix.status().ToString());
  if (!matrix.ok()) return;
  BP_HOLDS(matrix->rows >= 1 && matrix->rows <= rules.max_rows, matrix->rows);
  BP_HOLDS(matrix->elements.count() == matrix->rows * rules.cols, matrix->elements.count());
  for (int64_t i = 0; i < matrix->elements.count(); ++i) {
    BP_HOLDS(std::isfinite(matrix->elements.Get(i)), i);
  }
  rules.is_data = false;  // what was declared big-endian may look so
  rules.rows = matrix->rows;
  CheckSame(*matrix, rules, v1::TENSOR_ENCODING_RAW);
  CheckSame(*matrix, rules, v1::TENSOR_ENCODING_VALUES);
}

void DecodeAsClasses(uint8_t kind, const v1::Tensor& tensor) {
  const int64_t count = 1 + (kind >> 2 & 3);
  const auto classes = codec::DecodeClasses(tensor, "labels", count, kRows);
  BP_HOLDS(IsVerdict(classes.status()), classes.status().ToString());
  if (!classes.ok()) return;
  BP_HOLDS(classes->size() == size_t{kRows});
  for (const int32_t c : *classes) BP_HOLDS(c >= 0 && c < count, c);
}

}  // namespace

Type TensorType(uint8_t /*kind*/) { return v1::Tensor::descriptor(); }

void RunTensor(absl::string_view input) {
  for (const Part& part : ReadProgram(input)) {
    v1::Tensor tensor;
    if (!tensor.ParseFromString(part.bytes)) continue;
    if ((part.kind & 3) == 2) {
      DecodeAsClasses(part.kind, tensor);
    } else {
      DecodeOne(part.kind, tensor);
    }
  }
}

Seeds TensorSeeds() {
  Seeds seeds;
  const auto add = [&](uint8_t kind, const std::string& json) {
    seeds.push_back(WriteProgram({PartOf(kind, FromJson<v1::Tensor>(json))}));
  };
  add(4, R"({"shape":[4,2],"values":[0,0,0,1,1,0,1,1]})");
  add(4 | 1, R"({"values":[0,0.5,0,1,1,0,-1,1e-40]})");
  add(2 | 8, R"({"shape":[4],"values":[0,1,2,0]})");
  add(3, R"({"values":[1,2,3,4]})");
  const auto raw = [&](int kind, v1::DataType type, v1::ByteOrder order, const auto& elements) {
    v1::Tensor tensor;
    tensor.add_shape(4);
    tensor.set_data_type(type);
    tensor.set_byte_order(order);
    tensor.set_raw(elements, sizeof elements);
    seeds.push_back(WriteProgram({PartOf(static_cast<uint8_t>(kind), tensor)}));
  };
  const float floats[4] = {0, 1, -2.5F, 1e-3F};
  const double doubles[4] = {0, 1, -2.5, 1e300};
  const int32_t narrow[4] = {0, 1, 1, 0};
  const int64_t wide[4] = {0, 1, 1, 0};
  for (const int kind : {0, 1, 3, 16, 17 | 32}) {
    raw(kind, v1::DATA_TYPE_FLOAT32, v1::BYTE_ORDER_LITTLE_ENDIAN, floats);
    raw(kind, v1::DATA_TYPE_FLOAT64, v1::BYTE_ORDER_BIG_ENDIAN, doubles);
  }
  raw(2 | 4, v1::DATA_TYPE_INT32, v1::BYTE_ORDER_UNSPECIFIED, narrow);
  raw(2 | 4, v1::DATA_TYPE_INT64, v1::BYTE_ORDER_BIG_ENDIAN, wide);
  return seeds;
}

}  // namespace backprop::fuzz
