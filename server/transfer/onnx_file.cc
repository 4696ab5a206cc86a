#include "server/transfer/onnx_file.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/transfer/onnx_format.h"

namespace backprop::transfer {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

absl::Status Broken() {
  return absl::InvalidArgumentError("the file is not ONNX, or is damaged or truncated");
}

// Counts what takes more memory once it is parsed than bytes on the wire: messages, strings,
// integers (up to eight times, from one byte) and unknown fields. Takes no memory itself.
class PartCounter {
 public:
  // Reads to the limit of `in`.
  absl::Status Count(const Descriptor& type, int depth, CodedInputStream* in) {
    if (depth > kMaxOnnxDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages are nested deeper than ", kMaxOnnxDepth, " levels"));
    }
    while (const uint32_t tag = in->ReadTag()) {
      absl::Status counted = CountField(type, tag, depth, in);
      if (!counted.ok()) return counted;
      if (parts_ > kMaxOnnxParts) {
        return absl::InvalidArgumentError(absl::StrCat("the file has more than ", kMaxOnnxParts,
                                                       " messages, strings and integers"));
      }
    }
    return in->ConsumedEntireMessage() ? absl::OkStatus() : Broken();
  }

 private:
  absl::Status CountField(const Descriptor& type, uint32_t tag, int depth, CodedInputStream* in) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    switch (WireFormatLite::GetTagWireType(tag)) {
      case WireFormatLite::WIRETYPE_FIXED32:
      case WireFormatLite::WIRETYPE_FIXED64:
        if (field == nullptr) ++parts_;
        return WireFormatLite::SkipField(in, tag) ? absl::OkStatus() : Broken();
      case WireFormatLite::WIRETYPE_VARINT:
        ++parts_;
        return WireFormatLite::SkipField(in, tag) ? absl::OkStatus() : Broken();
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED:
        ++parts_;
        break;
      default:  // ONNX has no groups
        return Broken();
    }
    uint32_t size = 0;
    if (!in->ReadVarint32(&size) || size > static_cast<uint32_t>(std::numeric_limits<int>::max())) {
      return Broken();
    }
    const int length = static_cast<int>(size);
    if (field == nullptr || field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      return in->Skip(length) ? absl::OkStatus() : Broken();
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT ||
        field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      return in->Skip(length) ? absl::OkStatus() : Broken();
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return CountPacked(length, in);
    const auto limit = in->PushLimit(length);
    absl::Status counted =
        in->BytesUntilLimit() == length ? Count(*field->message_type(), depth + 1, in) : Broken();
    in->PopLimit(limit);
    return counted;
  }

  // Every integer of a packed field ends with a byte below 128.
  absl::Status CountPacked(int length, CodedInputStream* in) {
    const void* data = nullptr;
    int available = 0;
    if (length == 0) return absl::OkStatus();
    if (!in->GetDirectBufferPointer(&data, &available) || available < length) return Broken();
    const auto* bytes = static_cast<const uint8_t*>(data);
    parts_ += std::count_if(bytes, bytes + length, [](uint8_t byte) { return byte < 0x80; });
    return in->Skip(length) ? absl::OkStatus() : Broken();
  }

  int64_t parts_ = 0;
};

absl::Status CheckVersions(const onnx::ModelProto& model) {
  const auto outside = [](absl::string_view what, int64_t got, int64_t oldest, int64_t newest) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " must be between ", oldest, " and ", newest, ", got ", got));
  };
  if (model.ir_version() < kOldestIrVersion || model.ir_version() > kNewestIrVersion) {
    return outside("ir_version", model.ir_version(), kOldestIrVersion, kNewestIrVersion);
  }
  if (!model.has_graph()) return absl::InvalidArgumentError("the file has no graph");
  bool found = false;
  for (const onnx::OperatorSetIdProto& set : model.opset_import()) {
    const bool ml = set.domain() == "ai.onnx.ml";
    if (ml && (set.version() < 1 || set.version() > kNewestMlOpset)) {
      return outside("the version of opset_import ai.onnx.ml", set.version(), 1, kNewestMlOpset);
    }
    if (!set.domain().empty() && set.domain() != "ai.onnx") continue;
    if (found) return absl::InvalidArgumentError("opset_import names ai.onnx twice");
    found = true;
    if (set.version() < kOldestOpset || set.version() > kNewestOpset) {
      return outside("the version of opset_import ai.onnx", set.version(), kOldestOpset,
                     kNewestOpset);
    }
  }
  if (!found) return absl::InvalidArgumentError("opset_import does not name ai.onnx");
  return absl::OkStatus();
}

}  // namespace

bool StartsLikeOnnx(absl::string_view bytes) {
  return !bytes.empty() && static_cast<unsigned char>(bytes[0]) ==
                               WireFormatLite::MakeTag(onnx::ModelProto::kIrVersionFieldNumber,
                                                       WireFormatLite::WIRETYPE_VARINT);
}

absl::StatusOr<std::unique_ptr<onnx::ModelProto>> ParseOnnx(absl::string_view bytes) {
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError("the file has more than 2 GiB");
  }
  CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                      static_cast<int>(bytes.size()));
  const absl::Status counted = PartCounter().Count(*onnx::ModelProto::descriptor(), 0, &in);
  if (!counted.ok()) return counted;
  auto model = std::make_unique<onnx::ModelProto>();
  if (!model->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Broken();
  }
  const absl::Status versions = CheckVersions(*model);
  if (!versions.ok()) return versions;
  return model;
}

}  // namespace backprop::transfer
