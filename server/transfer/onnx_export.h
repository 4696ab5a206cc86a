// Writes a model as an ONNX file; docs/onnx.md describes the graph.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_EXPORT_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_EXPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "backprop/v1/model.pb.h"
#include "server/engine/network.h"

namespace backprop::transfer {

// Returns the file of a state of `network`, which must not await a fit (engine::AwaitsFit). `model`
// describes it: the name, the names of features and classes, the labels and the step are taken from
// there. RESOURCE_EXHAUSTED if the file would exceed 2 GiB.
absl::StatusOr<std::string> ExportOnnx(const v1::Model& model, const engine::Network& network,
                                       const engine::State& state);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_EXPORT_H_
