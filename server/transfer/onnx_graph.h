// An ONNX graph whose nodes are in order, and its constants.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_GRAPH_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_GRAPH_H_

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace backprop::transfer {

// The numbers of a constant, row-major. Every float is finite.
struct OnnxNumbers {
  int32_t type = 0;            // TensorProto::FLOAT, DOUBLE, INT32 or INT64
  std::vector<int64_t> dims;   // empty: a scalar
  std::vector<double> values;  // whole numbers above 2^53 are rounded
};

// Refers to a graph, which must outlive it and must not change. Thread-compatible. All errors are
// INVALID_ARGUMENT and name the node or the value.
class OnnxGraph {
 public:
  // Checks that every input of a node is an input of the graph, an initializer or the output of an
  // earlier node, and that no name is defined twice. So there is no cycle. `max_numbers` limits
  // the sum of the sizes of what Constant returns, and so its work: constants may be shared.
  static absl::StatusOr<OnnxGraph> Of(const onnx::ModelProto& model, int64_t max_numbers);

  const onnx::GraphProto& graph() const { return *graph_; }
  int64_t opset() const { return opset_; }  // of ai.onnx
  // The inputs that are no initializers.
  const std::vector<const onnx::ValueInfoProto*>& inputs() const { return inputs_; }
  bool IsInput(absl::string_view value) const;

  // The node that computes a value, and its position in the file; null and −1 for inputs of the
  // graph and initializers.
  const onnx::NodeProto* Producer(absl::string_view value) const;
  int Position(absl::string_view value) const;

  // Whether the value is the same for all inputs: an initializer, the output of Constant, or made
  // of such a value by Identity, Cast, Transpose, Reshape, Squeeze or Unsqueeze.
  bool IsConstant(absl::string_view value) const;
  // The numbers of such a value.
  absl::StatusOr<OnnxNumbers> Constant(absl::string_view value) const { return Evaluate(value, 0); }
  // The strings of an initializer; empty if it is none of strings, or `value` is another value.
  std::vector<std::string> Strings(absl::string_view value) const;

  // `node "n" (Gemm)`, or for a node without a name `the node (Gemm) that computes "y"`.
  std::string Describe(const onnx::NodeProto& node) const;
  absl::Status Refuse(const onnx::NodeProto& node, absl::string_view reason) const;

 private:
  OnnxGraph(const onnx::ModelProto& model, int64_t max_numbers)
      : graph_(&model.graph()), numbers_left_(max_numbers) {}
  absl::Status AddInitializers();
  absl::Status AddNode(int position);
  // Whether an attribute has the type of its name, so that a default is not taken for its value.
  absl::Status CheckAttribute(const onnx::NodeProto& node,
                              const onnx::AttributeProto& attribute) const;
  absl::StatusOr<OnnxNumbers> Evaluate(absl::string_view value, int depth) const;
  absl::StatusOr<OnnxNumbers> EvaluateNode(const onnx::NodeProto& node, int depth) const;

  // What a name stands for: an initializer, or the output of a node, or neither: an input.
  struct Value {
    const onnx::TensorProto* initializer = nullptr;
    int position = -1;  // of the node
    bool constant = false;
  };

  const onnx::GraphProto* graph_;
  int64_t opset_ = 0;
  absl::flat_hash_map<absl::string_view, Value> values_;
  std::vector<const onnx::ValueInfoProto*> inputs_;
  mutable int64_t numbers_left_;
};

// Returns an attribute of a node, or null.
const onnx::AttributeProto* OnnxAttribute(const onnx::NodeProto& node, absl::string_view name);
int64_t OnnxInteger(const onnx::NodeProto& node, absl::string_view name, int64_t otherwise);
float OnnxFloat(const onnx::NodeProto& node, absl::string_view name, float otherwise);

// Whether the operator is `op` of ai.onnx.
bool IsOnnxOp(const onnx::NodeProto& node, absl::string_view op);
// The name of an operator, with its domain unless that is ai.onnx, for messages.
std::string OnnxOpName(const onnx::NodeProto& node);

// Decodes a tensor of numbers. `what` is its name in errors.
absl::StatusOr<OnnxNumbers> DecodeOnnxTensor(const onnx::TensorProto& tensor,
                                             absl::string_view what);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_GRAPH_H_
