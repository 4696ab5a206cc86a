// Reads a network from an ONNX file; docs/onnx.md says which graphs it accepts.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_IMPORT_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_IMPORT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/model.pb.h"
#include "backprop/v1/model_file.pb.h"

namespace backprop::transfer {

struct OnnxImportOptions {
  const v1::Loss* loss = nullptr;            // null: that of the file, or chosen by the graph
  const v1::Optimizer* optimizer = nullptr;  // null: that of the file, or the default
  int64_t max_parameters = 0;                // of the network
};

// Returns the model of a file: the spec with its names, the labels, and the parameters without
// optimiser state. Only what the graph determines is validated in the spec. Memory and time are
// proportional to the size of the file and to max_parameters. INVALID_ARGUMENT with the node and
// the reason; RESOURCE_EXHAUSTED for more than max_parameters.
absl::StatusOr<v1::ModelFile> ImportOnnx(absl::string_view bytes, const OnnxImportOptions& options);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_IMPORT_H_
