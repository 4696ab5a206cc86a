// What ExportOnnx writes to the metadata of an ONNX file beside the graph.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_METADATA_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_METADATA_H_

#include <google/protobuf/map.h>
#include <onnx/onnx_pb.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "backprop/v1/model.pb.h"

namespace backprop::transfer {

struct OnnxMetadata {
  bool has_spec = false;
  // Without names. input_standardization is set if it is fitted by a run, and has no numbers.
  v1::ModelSpec spec;
  std::vector<std::string> feature_names;
  std::vector<std::string> class_names;
  google::protobuf::Map<std::string, std::string> labels;
};

// Adds the metadata of a model.
void WriteOnnxMetadata(const v1::Model& model, onnx::ModelProto* file);

// Reads the keys of onnx_format.h; other keys are ignored. INVALID_ARGUMENT names the key.
absl::Status ReadOnnxMetadata(const onnx::ModelProto& file, OnnxMetadata* metadata);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_METADATA_H_
