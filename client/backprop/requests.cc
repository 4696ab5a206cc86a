#include "client/backprop/requests.h"

#include <cstdint>
#include <utility>

namespace backprop {
namespace {

// Bytes of an element; 0 for a type that is not set.
int64_t SizeOf(v1::DataType type) {
  switch (type) {
    case v1::DATA_TYPE_FLOAT32:
    case v1::DATA_TYPE_INT32:
      return 4;
    case v1::DATA_TYPE_FLOAT64:
    case v1::DATA_TYPE_INT64:
      return 8;
    default:
      return 0;
  }
}

void CheckRows(const std::string& field, int64_t rows, int64_t expected, Violations* wrong) {
  if (rows == expected) return;
  wrong->push_back(
      {field, "expected " + std::to_string(expected) + ", got " + std::to_string(rows)});
}

int64_t RowsOf(const v1::Tensor& tensor) { return tensor.shape_size() == 0 ? 0 : tensor.shape(0); }

}  // namespace

void CheckName(const std::string& field, const std::string& name, Violations* wrong) {
  if (name.empty() || name.back() == '/') {
    wrong->push_back({field, "must not be empty, got '" + name + "'"});
  }
}

void CheckTensor(const std::string& field, const v1::Tensor& tensor, Violations* wrong) {
  int64_t count = 1;
  std::string shape;
  for (const int32_t extent : tensor.shape()) {
    shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    if (extent < 0 || __builtin_mul_overflow(count, int64_t{extent}, &count)) {
      wrong->push_back({field + ".shape", "is not a shape, got [" + shape + "]"});
      return;
    }
  }
  const int64_t element_bytes = SizeOf(tensor.data_type());
  if (element_bytes == 0 || tensor.shape_size() == 0) return;  // the server's job
  int64_t bytes = 0;
  const bool fits = !__builtin_mul_overflow(count, element_bytes, &bytes) &&
                    bytes == static_cast<int64_t>(tensor.raw().size());
  if (fits) return;
  const std::string type = v1::DataType_Name(tensor.data_type()).substr(10);  // "DATA_TYPE_"
  wrong->push_back({field + ".raw", "expected " + std::to_string(bytes) + " bytes for shape [" +
                                        shape + "] of " + type + ", got " +
                                        std::to_string(tensor.raw().size())});
}

void CheckBatch(const std::string& field, const v1::Batch& batch, Violations* wrong) {
  if (!batch.has_inputs() || batch.inputs().raw().empty()) return;  // the server's job
  CheckTensor(field + ".inputs", batch.inputs(), wrong);
  const int64_t rows = RowsOf(batch.inputs());
  if (batch.has_labels()) {
    CheckRows(field + ".labels.shape[0]", RowsOf(batch.labels()), rows, wrong);
  }
  if (batch.label_names_size() > 0 && batch.label_names_size() != rows) {
    wrong->push_back({field + ".label_names", "expected " + std::to_string(rows) + " names, got " +
                                                  std::to_string(batch.label_names_size())});
  }
  if (batch.has_targets()) {
    CheckTensor(field + ".targets", batch.targets(), wrong);
    CheckRows(field + ".targets.shape[0]", RowsOf(batch.targets()), rows, wrong);
  }
  if (batch.has_sample_weights()) {
    CheckRows(field + ".sample_weights.shape[0]", RowsOf(batch.sample_weights()), rows, wrong);
  }
}

void CheckTensors(const std::string& field,
                  const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors,
                  Violations* wrong) {
  for (int i = 0; i < tensors.size(); ++i) {
    CheckTensor(field + "[" + std::to_string(i) + "].tensor", tensors[i].tensor(), wrong);
  }
}

Status InvalidUnlessEmpty(Violations wrong) {
  if (wrong.empty()) return {};
  Status status;
  status.code = StatusCode::kInvalidArgument;
  for (const FieldViolation& violation : wrong) {
    status.message +=
        (status.message.empty() ? "" : "; ") + violation.field + ": " + violation.description;
  }
  status.field_violations = std::move(wrong);
  return status;
}

}  // namespace backprop
