// Parses the bytes of an ONNX file from a caller.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_FILE_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_FILE_H_

#include <onnx/onnx_pb.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace backprop::transfer {

// Whether a file that begins with `bytes`, at least one, may be ONNX: it starts with the field
// ir_version, as the files of all known exporters do.
bool StartsLikeOnnx(absl::string_view bytes);

// Parses a file of a supported version. The memory that it takes is at most proportional to the
// size of `bytes`, with a small factor: the parts and the depth of the file are counted before it
// is parsed. INVALID_ARGUMENT with the reason.
absl::StatusOr<std::unique_ptr<onnx::ModelProto>> ParseOnnx(absl::string_view bytes);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_FILE_H_
