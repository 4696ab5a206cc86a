#include "server/transfer/onnx_graph.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/text.h"
#include "server/transfer/onnx_format.h"

namespace backprop::transfer {
namespace {

absl::Status Invalid(absl::string_view what) { return absl::InvalidArgumentError(what); }

// The operators that make constants of constants.
bool KeepsConstants(const onnx::NodeProto& node) {
  for (const char* op : {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze"}) {
    if (IsOnnxOp(node, op)) return true;
  }
  return false;
}

// The numbers of an attribute of Constant.
absl::StatusOr<OnnxNumbers> OfConstantNode(const onnx::NodeProto& node,
                                           absl::string_view described) {
  OnnxNumbers out;
  if (const auto* value = OnnxAttribute(node, "value")) {
    return DecodeOnnxTensor(value->t(), node.output(0));
  }
  if (const auto* value = OnnxAttribute(node, "value_float")) {
    out.values = {value->f()};
    out.type = onnx::TensorProto::FLOAT;
  } else if (const auto* list = OnnxAttribute(node, "value_floats")) {
    out.values.assign(list->floats().begin(), list->floats().end());
    out.dims = {list->floats_size()};
    out.type = onnx::TensorProto::FLOAT;
  } else if (const auto* whole = OnnxAttribute(node, "value_int")) {
    out.values = {static_cast<double>(whole->i())};
    out.type = onnx::TensorProto::INT64;
  } else if (const auto* wholes = OnnxAttribute(node, "value_ints")) {
    for (const int64_t i : wholes->ints()) out.values.push_back(static_cast<double>(i));
    out.dims = {wholes->ints_size()};
    out.type = onnx::TensorProto::INT64;
  } else {
    return Invalid(absl::StrCat(described, ": holds no numbers"));
  }
  for (const double number : out.values) {
    if (number - number != 0) return Invalid(absl::StrCat(described, ": must be finite"));
  }
  return out;
}

// `numbers` with its two dimensions exchanged.
OnnxNumbers Transposed(const OnnxNumbers& numbers) {
  const int64_t rows = numbers.dims[0];
  const int64_t cols = numbers.dims[1];
  OnnxNumbers out{numbers.type, {cols, rows}, std::vector<double>(numbers.values.size())};
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      out.values[static_cast<size_t>(j * rows + i)] =
          numbers.values[static_cast<size_t>(i * cols + j)];
    }
  }
  return out;
}

}  // namespace

const onnx::AttributeProto* OnnxAttribute(const onnx::NodeProto& node, absl::string_view name) {
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

int64_t OnnxInteger(const onnx::NodeProto& node, absl::string_view name, int64_t otherwise) {
  const auto* attribute = OnnxAttribute(node, name);
  return attribute == nullptr ? otherwise : attribute->i();
}

float OnnxFloat(const onnx::NodeProto& node, absl::string_view name, float otherwise) {
  const auto* attribute = OnnxAttribute(node, name);
  return attribute == nullptr ? otherwise : attribute->f();
}

bool IsOnnxOp(const onnx::NodeProto& node, absl::string_view op) {
  return node.op_type() == op && (node.domain().empty() || node.domain() == "ai.onnx");
}

std::string OnnxOpName(const onnx::NodeProto& node) {
  std::string name = base::Escape(node.op_type(), base::kMaxQuotedBytes);
  if (node.domain().empty() || node.domain() == "ai.onnx") return name;
  return absl::StrCat(base::Escape(node.domain(), base::kMaxQuotedBytes), ".", name);
}

absl::StatusOr<OnnxGraph> OnnxGraph::Of(const onnx::ModelProto& model, int64_t max_numbers) {
  OnnxGraph graph(model, max_numbers);
  for (const onnx::OperatorSetIdProto& set : model.opset_import()) {
    if (set.domain().empty() || set.domain() == "ai.onnx") graph.opset_ = set.version();
  }
  absl::Status added = graph.AddInitializers();
  if (!added.ok()) return added;
  for (int i = 0; i < model.graph().node_size(); ++i) {
    added = graph.AddNode(i);
    if (!added.ok()) return added;
  }
  for (const onnx::ValueInfoProto& output : model.graph().output()) {
    if (!graph.values_.contains(output.name())) {
      return Invalid(absl::StrCat("output ", base::Quote(output.name()), " is not computed"));
    }
  }
  return graph;
}

absl::Status OnnxGraph::AddInitializers() {
  if (graph_->sparse_initializer_size() > 0) {
    return Invalid("the graph has a sparse initializer; only dense ones are supported");
  }
  for (const onnx::TensorProto& tensor : graph_->initializer()) {
    if (!values_.insert({tensor.name(), {&tensor, -1, true}}).second) {
      return Invalid(absl::StrCat("two initializers are named ", base::Quote(tensor.name())));
    }
  }
  for (const onnx::ValueInfoProto& input : graph_->input()) {
    const auto [it, added] = values_.insert({input.name(), {}});
    if (added) {
      inputs_.push_back(&input);
    } else if (!it->second.constant) {
      return Invalid(absl::StrCat("two inputs are named ", base::Quote(input.name())));
    }
  }
  return absl::OkStatus();
}

absl::Status OnnxGraph::AddNode(int position) {
  const onnx::NodeProto& node = graph_->node(position);
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    const absl::Status type = CheckAttribute(node, attribute);
    if (!type.ok()) return type;
  }
  bool constant = KeepsConstants(node) && node.input_size() > 0;
  for (const std::string& input : node.input()) {
    if (input.empty()) continue;  // an optional input that is not given
    const auto it = values_.find(input);
    if (it == values_.end()) {
      return Refuse(node, absl::StrCat("its input ", base::Quote(input),
                                       " is not computed by an earlier node"));
    }
    constant = constant && it->second.constant;
  }
  if (IsOnnxOp(node, "Constant")) constant = true;
  for (const std::string& output : node.output()) {
    if (output.empty()) continue;
    if (!values_.insert({output, {nullptr, position, constant}}).second) {
      return Refuse(node, absl::StrCat("its output ", base::Quote(output), " is defined before"));
    }
  }
  return absl::OkStatus();
}

absl::Status OnnxGraph::CheckAttribute(const onnx::NodeProto& node,
                                       const onnx::AttributeProto& attribute) const {
  if (!attribute.ref_attr_name().empty()) {
    return Refuse(node, "has an attribute of a function, but is in none");
  }
  for (const char* name : {"alpha", "beta"}) {
    if (attribute.name() == name && !attribute.has_f()) {
      return Refuse(node, absl::StrCat(name, " must be a float"));
    }
  }
  for (const char* name : {"axis", "to", "transA", "transB"}) {
    if (attribute.name() == name && !attribute.has_i()) {
      return Refuse(node, absl::StrCat(name, " must be an integer"));
    }
  }
  return absl::OkStatus();
}

bool OnnxGraph::IsInput(absl::string_view value) const {
  const auto it = values_.find(value);
  return it != values_.end() && it->second.initializer == nullptr && it->second.position < 0;
}

int OnnxGraph::Position(absl::string_view value) const {
  const auto it = values_.find(value);
  return it == values_.end() ? -1 : it->second.position;
}

const onnx::NodeProto* OnnxGraph::Producer(absl::string_view value) const {
  const int position = Position(value);
  return position < 0 ? nullptr : &graph_->node(position);
}

bool OnnxGraph::IsConstant(absl::string_view value) const {
  const auto it = values_.find(value);
  return it != values_.end() && it->second.constant;
}

std::vector<std::string> OnnxGraph::Strings(absl::string_view value) const {
  const auto it = values_.find(value);
  if (it == values_.end() || it->second.initializer == nullptr) return {};
  const auto& strings = it->second.initializer->string_data();
  return {strings.begin(), strings.end()};
}

absl::StatusOr<OnnxNumbers> OnnxGraph::Evaluate(absl::string_view value, int depth) const {
  if (depth > kMaxConstantNodes) {
    return Invalid(absl::StrCat("constant ", base::Quote(value), " is made by more than ",
                                kMaxConstantNodes, " nodes in a row"));
  }
  const Value& found = values_.at(value);
  auto numbers = found.initializer != nullptr ? DecodeOnnxTensor(*found.initializer, value)
                                              : EvaluateNode(graph_->node(found.position), depth);
  if (!numbers.ok()) return numbers;
  numbers_left_ -= static_cast<int64_t>(numbers->values.size());
  if (numbers_left_ < 0) {
    return Invalid(absl::StrCat("constant ", base::Quote(value),
                                ": the constants of the graph, each as often as it is used, have "
                                "more numbers than a model within the server's limits"));
  }
  return numbers;
}

absl::StatusOr<OnnxNumbers> OnnxGraph::EvaluateNode(const onnx::NodeProto& node, int depth) const {
  if (IsOnnxOp(node, "Constant")) return OfConstantNode(node, Describe(node));
  if (node.input(0).empty()) return Refuse(node, "its first input is missing");
  auto in = Evaluate(node.input(0), depth + 1);
  if (!in.ok() || IsOnnxOp(node, "Identity")) return in;
  if (IsOnnxOp(node, "Cast")) {
    const int64_t to = OnnxInteger(node, "to", 0);
    const bool widens = to == onnx::TensorProto::DOUBLE || to == in->type;
    const bool narrows = to == onnx::TensorProto::FLOAT && in->type == onnx::TensorProto::DOUBLE;
    if (!widens && !narrows) return Refuse(node, "casts a constant to a type that is no float");
    if (narrows) {
      for (double& value : in->values) value = static_cast<double>(static_cast<float>(value));
    }
    in->type = static_cast<int32_t>(to);
    return in;
  }
  if (IsOnnxOp(node, "Transpose")) {
    const auto* perm = OnnxAttribute(node, "perm");
    const bool exchanges =
        perm == nullptr || (perm->ints_size() == 2 && perm->ints(0) == 1 && perm->ints(1) == 0);
    if (in->dims.size() != 2 || !exchanges) {
      return Refuse(node, "transposes a constant that is no matrix, or not to (1, 0)");
    }
    return Transposed(*in);
  }
  if (IsOnnxOp(node, "Reshape")) {
    if (node.input_size() < 2 || node.input(1).empty()) return Refuse(node, "has no shape");
    // Made by no further node, so that the work is not doubled at each of several nodes in a row.
    const auto shape = Evaluate(node.input(1), kMaxConstantNodes);
    if (!shape.ok()) return shape.status();
    const auto count = static_cast<int64_t>(in->values.size());
    std::vector<int64_t> dims;
    for (const double dim : shape->values) {
      const bool fits = dim >= -1 && dim <= static_cast<double>(count);
      dims.push_back(fits ? static_cast<int64_t>(dim) : 0);
    }
    const auto rest = std::find(dims.begin(), dims.end(), -1);
    if (rest != dims.end()) *rest = 1;
    bool fits = dims.size() <= 8;
    int64_t product = 1;
    for (const int64_t dim : dims) {
      fits = fits && dim > 0 && dim <= count && product <= count / dim;
      if (fits) product *= dim;
    }
    if (fits && rest != dims.end()) {
      fits = count % product == 0;
      *rest = count / product;
      product = count;
    }
    if (!fits || product != count) return Refuse(node, "gives a constant another size");
    in->dims = std::move(dims);
    return in;
  }
  // Squeeze and Unsqueeze change dimensions of 1 only, which matter for matrices alone.
  if (in->values.size() > 1 && in->dims.size() > 1) {
    return Refuse(node, "changes the rank of a constant matrix");
  }
  in->dims = {static_cast<int64_t>(in->values.size())};
  return in;
}

std::string OnnxGraph::Describe(const onnx::NodeProto& node) const {
  if (!node.name().empty()) {
    return absl::StrCat("node ", base::Quote(node.name()), " (", OnnxOpName(node), ")");
  }
  const std::string output = node.output_size() == 0 ? "nothing" : base::Quote(node.output(0));
  return absl::StrCat("the node (", OnnxOpName(node), ") that computes ", output);
}

absl::Status OnnxGraph::Refuse(const onnx::NodeProto& node, absl::string_view reason) const {
  return absl::InvalidArgumentError(absl::StrCat(Describe(node), ": ", reason));
}

}  // namespace backprop::transfer
