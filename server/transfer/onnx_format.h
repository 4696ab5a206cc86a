// What the server writes to ONNX files and accepts in them; docs/onnx.md describes it.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_FORMAT_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_FORMAT_H_

#include <cstddef>
#include <cstdint>

namespace backprop::transfer {

// Written files: the newest versions that Debian's library of ONNX defines. ONNX Runtime reads them
// since 1.12.
inline constexpr int64_t kOnnxIrVersion = 8;
inline constexpr int64_t kOnnxOpset = 17;

// Files that are read. Before opset 7, arithmetic broadcast by an attribute. The newest ones are
// those of ONNX 1.23, with which the meaning of every accepted operator was compared.
inline constexpr int64_t kOldestIrVersion = 3;
inline constexpr int64_t kNewestIrVersion = 14;
inline constexpr int64_t kOldestOpset = 7;
inline constexpr int64_t kNewestOpset = 28;
inline constexpr int64_t kNewestMlOpset = 5;

// Maximum number of messages, strings and groups in a file: their memory is not proportional to
// their bytes. Numbers are.
inline constexpr int64_t kMaxOnnxParts = 1 << 17;
inline constexpr int kMaxOnnxDepth = 16;  // of messages in messages
// Maximum number of elementwise nodes between two dense layers, and of nodes that make a constant.
inline constexpr int kMaxElementwiseNodes = 64;
inline constexpr int kMaxConstantNodes = 16;

// Keys of metadata_props.
inline constexpr char kSpecKey[] = "backprop.spec";  // ModelSpec as JSON, without its names
inline constexpr char kStepKey[] = "backprop.step";
inline constexpr char kFeatureNamesKey[] = "backprop.feature_names";  // array as JSON
inline constexpr char kClassNamesKey[] = "backprop.class_names";      // the same
inline constexpr char kLabelPrefix[] = "backprop.labels.";            // followed by the label's key

// The domain of functions that written files define.
inline constexpr char kOnnxDomain[] = "dev.backprop";

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_FORMAT_H_
