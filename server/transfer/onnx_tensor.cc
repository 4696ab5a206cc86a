// Decodes the tensors of ONNX files.
#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/base/text.h"
#include "server/transfer/onnx_graph.h"

namespace backprop::transfer {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

absl::Status Refuse(absl::string_view what, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", base::Quote(what), " ", reason));
}

// Copies the elements from raw_data, or from the field `typed` if there is no raw_data. The size of
// what is there is compared with `count` before memory is allocated.
template <class T, class Typed>
absl::Status CopyElements(const onnx::TensorProto& tensor, const Typed& typed, int64_t count,
                          absl::string_view what, std::vector<double>* out) {
  const bool raw = tensor.has_raw_data();
  const std::string& bytes = tensor.raw_data();
  const auto held =
      static_cast<int64_t>(raw ? bytes.size() / sizeof(T) : static_cast<size_t>(typed.size()));
  if (held != count || (raw && bytes.size() % sizeof(T) != 0)) {
    return Refuse(what, absl::StrCat("must have ", count, " elements by its dims, got ",
                                     raw ? absl::StrCat(bytes.size(), " bytes")
                                         : absl::StrCat(held, " elements")));
  }
  out->resize(static_cast<size_t>(count));
  for (size_t i = 0; i < out->size(); ++i) {
    T element;
    if (raw) {
      std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    } else {
      element = static_cast<T>(typed[static_cast<int>(i)]);
    }
    (*out)[i] = static_cast<double>(element);
    if (!std::isfinite((*out)[i])) {
      return Refuse(what,
                    absl::StrCat("must have finite elements, got ", (*out)[i], " as element ", i));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OnnxNumbers> DecodeOnnxTensor(const onnx::TensorProto& tensor,
                                             absl::string_view what) {
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL || tensor.external_data_size() > 0) {
    return Refuse(what,
                  "has its elements in another file; save the model as one file "
                  "(torch.onnx.export: external_data=False)");
  }
  if (tensor.has_segment()) return Refuse(what, "is divided into segments");
  OnnxNumbers out;
  out.type = tensor.data_type();
  int64_t count = 1;
  for (const int64_t dim : tensor.dims()) {
    // No file has as many elements, so the product cannot overflow.
    constexpr int64_t kMost = int64_t{1} << 31;
    if (dim < 0 || dim > kMost || count * dim > kMost) {
      return Refuse(what, absl::StrCat("has a dimension of ", dim, ", or too many elements"));
    }
    count *= dim;
    out.dims.push_back(dim);
  }
  absl::Status copied;
  switch (tensor.data_type()) {
    case onnx::TensorProto::FLOAT:
      copied = CopyElements<float>(tensor, tensor.float_data(), count, what, &out.values);
      break;
    case onnx::TensorProto::DOUBLE:
      copied = CopyElements<double>(tensor, tensor.double_data(), count, what, &out.values);
      break;
    case onnx::TensorProto::INT32:
      copied = CopyElements<int32_t>(tensor, tensor.int32_data(), count, what, &out.values);
      break;
    case onnx::TensorProto::INT64:
      copied = CopyElements<int64_t>(tensor, tensor.int64_data(), count, what, &out.values);
      break;
    default:
      return Refuse(what, absl::StrCat("has elements of type ", tensor.data_type(),
                                       "; expected FLOAT or DOUBLE"));
  }
  if (!copied.ok()) return copied;
  return out;
}

}  // namespace backprop::transfer
