#include "server/codec/tensor_codec.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/codec/byte_order.h"

namespace backprop::codec {
namespace {

using base::FieldError;
using engine::DataType;

std::string ShapeOf(const MatrixRules& rules) {
  if (rules.is_vector) return absl::StrCat("[", rules.rows * rules.cols, "]");
  return absl::StrCat("[", rules.rows, ", ", rules.cols, "]");
}

const char* NameOf(v1::DataType type) {
  switch (type) {
    case v1::DATA_TYPE_FLOAT32:
      return "float32";
    case v1::DATA_TYPE_FLOAT64:
      return "float64";
    case v1::DATA_TYPE_INT32:
      return "int32";
    case v1::DATA_TYPE_INT64:
      return "int64";
    default:
      return "unspecified";
  }
}

int64_t SizeOf(v1::DataType type) {
  return type == v1::DATA_TYPE_FLOAT32 || type == v1::DATA_TYPE_INT32 ? 4 : 8;
}

bool IsFloat(v1::DataType type) {
  return type == v1::DATA_TYPE_FLOAT32 || type == v1::DATA_TYPE_FLOAT64;
}

// Checks everything but the shape and the elements. Returns the number of elements.
absl::StatusOr<int64_t> CountElements(const v1::Tensor& tensor, absl::string_view field,
                                      bool wants_floats) {
  const bool typed = tensor.values_size() > 0;
  const bool raw = !tensor.raw().empty();
  if (typed && raw) return FieldError(field, "expected values or raw, got both");
  if (!typed && !raw) return FieldError(field, "expected values or raw, got neither");
  if (!v1::DataType_IsValid(tensor.data_type())) {
    return FieldError(absl::StrCat(field, ".data_type"),
                      absl::StrCat("expected a known data type, got ", tensor.data_type()));
  }
  if (!v1::ByteOrder_IsValid(tensor.byte_order())) {
    return FieldError(absl::StrCat(field, ".byte_order"),
                      absl::StrCat("expected a known byte order, got ", tensor.byte_order()));
  }
  if (typed && tensor.byte_order() != v1::BYTE_ORDER_UNSPECIFIED) {
    return FieldError(absl::StrCat(field, ".byte_order"),
                      absl::StrCat("is allowed only with raw, got ",
                                   v1::ByteOrder_Name(tensor.byte_order()), " with values"));
  }
  if (typed) return tensor.values_size();
  const v1::DataType type = tensor.data_type();
  const bool fits = type != v1::DATA_TYPE_UNSPECIFIED && IsFloat(type) == wants_floats;
  if (!fits) {
    return FieldError(
        absl::StrCat(field, ".data_type"),
        absl::StrCat("must be ", wants_floats ? "FLOAT32 or FLOAT64" : "INT32 or INT64",
                     " with raw, got ", NameOf(type)));
  }
  const auto bytes = static_cast<int64_t>(tensor.raw().size());
  if (bytes % SizeOf(type) != 0) {
    return FieldError(absl::StrCat(field, ".raw"),
                      absl::StrCat("must be a whole number of ", NameOf(type), " elements of ",
                                   SizeOf(type), " bytes, got ", bytes, " bytes"));
  }
  return bytes / SizeOf(type);
}

absl::Status WrongCount(const v1::Tensor& tensor, absl::string_view field, int64_t expected,
                        int64_t count, const std::string& why) {
  if (tensor.raw().empty()) {
    return FieldError(absl::StrCat(field, ".values"),
                      absl::StrCat("expected ", expected, " values for ", why, ", got ", count));
  }
  return FieldError(
      absl::StrCat(field, ".raw"),
      absl::StrCat("expected ", expected * SizeOf(tensor.data_type()), " bytes for ", why, " of ",
                   NameOf(tensor.data_type()), ", got ", tensor.raw().size()));
}

// Checks the shape against the rules and the number of elements. Returns the number of rows.
absl::StatusOr<int64_t> CheckShape(const v1::Tensor& tensor, const MatrixRules& rules,
                                   int64_t count) {
  const std::string shape_field = absl::StrCat(rules.field, ".shape");
  const bool any_rows = rules.rows == MatrixRules::kAnyRows;
  for (int i = 0; i < tensor.shape_size(); ++i) {
    if (tensor.shape(i) < 1) {
      return FieldError(absl::StrCat(shape_field, "[", i, "]"),
                        absl::StrCat("must be at least 1, got ", tensor.shape(i)));
    }
  }
  int64_t rows = 0;
  if (tensor.shape_size() == 0) {
    if (count % rules.cols != 0) {
      return FieldError(rules.field, absl::StrCat("expected a multiple of ", rules.cols,
                                                  " values, as no shape is given, got ", count));
    }
    rows = count / rules.cols;
    if (!any_rows && rows != rules.rows) {
      return WrongCount(tensor, rules.field, rules.rows * rules.cols, count,
                        absl::StrCat("shape ", ShapeOf(rules)));
    }
  } else {
    int64_t cols = 0;
    int col_dimension = 1;
    if (tensor.shape_size() == 2) {
      rows = tensor.shape(0);
      cols = tensor.shape(1);
    } else if (tensor.shape_size() == 1 && rules.cols == 1) {
      rows = tensor.shape(0);
      cols = 1;
    } else if (tensor.shape_size() == 1) {
      rows = 1;
      cols = tensor.shape(0);
      col_dimension = 0;
    } else {
      return FieldError(shape_field,
                        absl::StrCat("expected at most 2 dimensions, got ", tensor.shape_size()));
    }
    if (cols != rules.cols) {
      return FieldError(absl::StrCat(shape_field, "[", col_dimension, "]"),
                        absl::StrCat("expected ", rules.cols, ", got ", cols));
    }
    if (!any_rows && rows != rules.rows) {
      return FieldError(absl::StrCat(shape_field, "[0]"),
                        absl::StrCat("expected ", rules.rows, ", got ", rows));
    }
  }
  if (any_rows && rows > rules.max_rows) {
    return base::LimitError(
        rules.field, absl::StrCat("has ", rows, " rows, more than the limit of ", rules.max_rows));
  }
  // rows < 2^31 and cols ≤ the limit on parameters: no overflow.
  if (rows * rules.cols != count) {
    return WrongCount(tensor, rules.field, rows * rules.cols, count,
                      absl::StrCat("shape [", absl::StrJoin(tensor.shape(), ", "), "]"));
  }
  return rows;
}

absl::Status BadElement(const v1::Tensor& tensor, const MatrixRules& rules, int64_t index,
                        double value) {
  const int64_t col = index % rules.cols;
  std::string field = rules.is_vector
                          ? absl::StrCat(rules.field, "[", index, "]")
                          : absl::StrCat(rules.field, "[", index / rules.cols, "][", col, "]");
  const bool named = rules.column_names != nullptr && !rules.column_names->empty();
  if (named) {
    absl::StrAppend(&field, " (", (*rules.column_names)[static_cast<size_t>(col)], ")");
  }
  const std::string hint = BigEndianHint(tensor, /*classes=*/0);
  if (std::isfinite(value)) {
    return FieldError(field, absl::StrCat("does not fit float32, got ", value, hint));
  }
  return FieldError(field, absl::StrCat("must be finite, got ", value, hint));
}

// Converts the elements to `To`, copies them into `out`, and checks that each is finite there.
template <class From, bool swapped, class To>
absl::Status CopyFinite(const v1::Tensor& tensor, const char* from, const MatrixRules& rules,
                        std::span<To> out) {
  // The sum of the products with 0 is 0 if all elements are finite, otherwise NaN. The loop that
  // finds the element runs only in the second case.
  To check = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<To>(Load<From>(from + i * sizeof(From), swapped));
    check += out[i] * To(0);
  }
  if (check == 0) return absl::OkStatus();
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(out[i])) continue;
    const From element = Load<From>(from + i * sizeof(From), swapped);
    return BadElement(tensor, rules, static_cast<int64_t>(i), static_cast<double>(element));
  }
  return absl::OkStatus();
}

template <class To>
absl::Status CopyInto(const v1::Tensor& tensor, const MatrixRules& rules, std::span<To> out) {
  if (tensor.raw().empty()) {
    const char* values = reinterpret_cast<const char*>(tensor.values().data());
    return CopyFinite<double, false, To>(tensor, values, rules, out);
  }
  const char* raw = tensor.raw().data();
  const bool narrow = tensor.data_type() == v1::DATA_TYPE_FLOAT32;
  if (tensor.byte_order() == v1::BYTE_ORDER_BIG_ENDIAN) {
    return narrow ? CopyFinite<float, true, To>(tensor, raw, rules, out)
                  : CopyFinite<double, true, To>(tensor, raw, rules, out);
  }
  return narrow ? CopyFinite<float, false, To>(tensor, raw, rules, out)
                : CopyFinite<double, false, To>(tensor, raw, rules, out);
}

}  // namespace

absl::StatusOr<Matrix> DecodeMatrix(const v1::Tensor& tensor, const MatrixRules& rules) {
  const auto count = CountElements(tensor, rules.field, /*wants_floats=*/true);
  if (!count.ok()) return count.status();
  const auto rows = CheckShape(tensor, rules, *count);
  if (!rows.ok()) return rows.status();
  if (rules.is_data) {
    const std::string complaint = LooksBigEndian(tensor);
    if (!complaint.empty()) return FieldError(absl::StrCat(rules.field, ".byte_order"), complaint);
  }
  Matrix matrix{*rows, engine::Buffer(rules.type, *count)};
  const absl::Status status = rules.type == DataType::kFloat32
                                  ? CopyInto(tensor, rules, matrix.elements.as<float>())
                                  : CopyInto(tensor, rules, matrix.elements.as<double>());
  if (!status.ok()) return status;
  return matrix;
}

absl::StatusOr<std::vector<int32_t>> DecodeClasses(const v1::Tensor& tensor,
                                                   absl::string_view field, int64_t classes,
                                                   int64_t rows) {
  const auto count = CountElements(tensor, field, /*wants_floats=*/false);
  if (!count.ok()) return count.status();
  MatrixRules rules;
  rules.field = std::string(field);
  rules.rows = rows;
  rules.is_vector = true;
  const auto shape = CheckShape(tensor, rules, *count);
  if (!shape.ok()) return shape.status();
  const auto bad = [&](size_t i, const std::string& got) {
    return FieldError(absl::StrCat(field, "[", i, "]"),
                      absl::StrCat("must be a class index in [0, ", classes, "), got ", got,
                                   BigEndianHint(tensor, classes)));
  };
  const bool swapped = tensor.byte_order() == v1::BYTE_ORDER_BIG_ENDIAN;
  std::vector<int32_t> decoded(static_cast<size_t>(rows));
  for (size_t i = 0; i < decoded.size(); ++i) {
    if (tensor.raw().empty()) {
      const double value = tensor.values(static_cast<int>(i));
      // NaN fails the first comparison.
      const bool good =
          value >= 0 && value < static_cast<double>(classes) && value == std::floor(value);
      if (!good) return bad(i, absl::StrCat(value));
      decoded[i] = static_cast<int32_t>(value);
      continue;
    }
    const char* raw = tensor.raw().data();
    const int64_t value = tensor.data_type() == v1::DATA_TYPE_INT32
                              ? Load<int32_t>(raw + i * sizeof(int32_t), swapped)
                              : Load<int64_t>(raw + i * sizeof(int64_t), swapped);
    if (value < 0 || value >= classes) return bad(i, absl::StrCat(value));
    decoded[i] = static_cast<int32_t>(value);
  }
  const std::string complaint = LooksBigEndian(tensor);
  if (!complaint.empty()) return FieldError(absl::StrCat(field, ".byte_order"), complaint);
  return decoded;
}

void EncodeTensor(const std::byte* elements, DataType type, const std::vector<int64_t>& shape,
                  v1::TensorEncoding encoding, v1::Tensor* out) {
  int64_t count = 1;
  for (int64_t size : shape) {
    out->add_shape(static_cast<int32_t>(size));
    count *= size;
  }
  out->set_data_type(type == DataType::kFloat32 ? v1::DATA_TYPE_FLOAT32 : v1::DATA_TYPE_FLOAT64);
  if (encoding == v1::TENSOR_ENCODING_RAW) {
    out->set_raw(elements, static_cast<size_t>(count * engine::SizeOf(type)));
    return;
  }
  out->mutable_values()->Reserve(static_cast<int>(count));
  for (int64_t i = 0; i < count; ++i) {
    if (type == DataType::kFloat32) {
      float value = 0;
      std::memcpy(&value, elements + static_cast<size_t>(i) * sizeof(value), sizeof(value));
      out->add_values(static_cast<double>(value));
    } else {
      double value = 0;
      std::memcpy(&value, elements + static_cast<size_t>(i) * sizeof(value), sizeof(value));
      out->add_values(value);
    }
  }
}

v1::TensorEncoding EncodingOf(const v1::Tensor& tensor) {
  return tensor.raw().empty() ? v1::TENSOR_ENCODING_VALUES : v1::TENSOR_ENCODING_RAW;
}

}  // namespace backprop::codec
