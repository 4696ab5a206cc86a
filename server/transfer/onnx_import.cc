#include "server/transfer/onnx_import.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/transfer/onnx_erf.h"
#include "server/transfer/onnx_expression.h"
#include "server/transfer/onnx_file.h"
#include "server/transfer/onnx_format.h"
#include "server/transfer/onnx_graph.h"
#include "server/transfer/onnx_metadata.h"

namespace backprop::transfer {
namespace {

using onnx::NodeProto;
using onnx::TensorProto;

absl::Status Refuse(absl::string_view what) { return absl::InvalidArgumentError(what); }

bool IsFloat(int32_t type) { return type == TensorProto::FLOAT || type == TensorProto::DOUBLE; }

// The number of inputs of an operator that is computed for each element; 0 for other operators.
// ONNX has no Erfc, but tf2onnx writes it for the GELU of Keras.
int ElementwiseInputs(const NodeProto& node) {
  for (const char* op : {"Abs", "Elu", "Erf", "Erfc", "Exp", "Gelu", "LeakyRelu", "Log", "Neg",
                         "Relu", "Sigmoid", "Softplus", "Swish", "Tanh"}) {
    if (IsOnnxOp(node, op)) return 1;
  }
  for (const char* op : {"Add", "Div", "Greater", "Max", "Min", "Mul", "Sub"}) {
    if (IsOnnxOp(node, op)) return 2;
  }
  return IsOnnxOp(node, "Where") ? 3 : 0;
}

// A float32 as the shortest decimal number that rounds to it, so that 0.01f becomes 0.01.
double Shortest(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value);
  double number = value;
  std::from_chars(digits, end.ptr, number);
  return number;
}

// A dense layer: x·W + b, before its activation.
struct Linear {
  const NodeProto* node = nullptr;
  OnnxNumbers weights;       // (inputs, units)
  std::vector<double> bias;  // (units); empty: none
  std::string input;         // the value x
};

// Reads one network, from its output back to its input.
class Reader {
 public:
  Reader(const onnx::ModelProto& file, OnnxGraph graph, const OnnxImportOptions& options)
      : file_(file), graph_(std::move(graph)), options_(options) {}

  absl::StatusOr<v1::ModelFile> Read() {
    absl::Status status = FindInput();
    if (status.ok()) status = FindOutput();
    if (status.ok()) status = ReadEnd();
    if (status.ok()) status = ReadLayers();
    if (status.ok()) status = CheckOutputs();
    if (!status.ok()) return status;
    status = BuildModel();
    if (!status.ok()) return status;
    return std::move(model_);
  }

 private:
  absl::Status FindInput() {
    if (graph_.inputs().size() != 1) {
      return Refuse(absl::StrCat("the graph must have one input, got ", graph_.inputs().size()));
    }
    input_ = graph_.inputs()[0];
    const auto& type = input_->type().tensor_type();
    if (!input_->type().has_tensor_type() || !IsFloat(type.elem_type())) {
      return Refuse(absl::StrCat("input ", base::Quote(input_->name()),
                                 " must be a tensor of FLOAT or DOUBLE"));
    }
    return absl::OkStatus();
  }

  // The output of numbers that is computed last. Others must be computed on the way to it; outputs
  // of other types, such as the predicted label, follow from it and are ignored.
  absl::Status FindOutput() {
    int last = -1;
    for (const onnx::ValueInfoProto& output : graph_.graph().output()) {
      if (!HoldsNumbers(output)) continue;
      const int position = graph_.Position(output.name());
      if (position > last) {
        last = position;
        output_ = &output;
      }
    }
    if (output_ == nullptr) return Refuse("the graph computes no output of numbers");
    return absl::OkStatus();
  }
  static bool HoldsNumbers(const onnx::ValueInfoProto& output) {
    // The probabilities of scikit-learn's classifiers are sequences of maps from class to number.
    if (output.type().has_sequence_type()) return true;
    if (!output.type().has_tensor_type()) return !output.has_type();
    const int32_t type = output.type().tensor_type().elem_type();
    return IsFloat(type) || type == TensorProto::UNDEFINED;
  }

  absl::Status CheckOutputs() const {
    for (const onnx::ValueInfoProto& output : graph_.graph().output()) {
      if (!HoldsNumbers(output) || path_.contains(output.name())) continue;
      return Refuse(absl::StrCat("output ", base::Quote(output.name()),
                                 " is not computed on the way to output ",
                                 base::Quote(output_->name()), "; a model has one output"));
    }
    return absl::OkStatus();
  }

  // Follows `value` back through nodes that leave a matrix of rows as it is. A Reshape must keep
  // the number of columns, which is checked when it is known (CheckWidths).
  absl::StatusOr<std::string> Source(std::string value) {
    for (;;) {
      path_.insert(value);
      const NodeProto* node = graph_.Producer(value);
      if (node == nullptr || graph_.IsConstant(value)) return value;
      const bool keeps = IsOnnxOp(*node, "Identity") || IsOnnxOp(*node, "Cast") ||
                         IsOnnxOp(*node, "Dropout") || IsOnnxOp(*node, "Flatten") ||
                         IsOnnxOp(*node, "Reshape") || IsOnnxOp(*node, "Squeeze");
      if (!keeps) return value;
      if (node->input_size() == 0 || node->output(0) != value) {
        return graph_.Refuse(*node, "is used in a way that is not supported");
      }
      const absl::Status nothing = CheckDoesNothing(*node);
      if (!nothing.ok()) return nothing;
      value = node->input(0);
    }
  }

  absl::Status CheckDoesNothing(const NodeProto& node) {
    if (IsOnnxOp(node, "Cast")) {
      if (IsFloat(static_cast<int32_t>(OnnxInteger(node, "to", 0)))) return absl::OkStatus();
      return graph_.Refuse(node, "casts to a type that is neither FLOAT nor DOUBLE");
    }
    if (IsOnnxOp(node, "Dropout")) {
      if (node.input_size() < 3 || node.input(2).empty()) return absl::OkStatus();
      return graph_.Refuse(node, "has an input training_mode; export the model for inference");
    }
    if (IsOnnxOp(node, "Flatten")) {
      flattens_ = true;
      if (OnnxInteger(node, "axis", 1) == 1) return absl::OkStatus();
      return graph_.Refuse(node, "must have axis 1, so that it keeps the rows");
    }
    if (IsOnnxOp(node, "Reshape")) return CheckReshape(node);
    if (IsOnnxOp(node, "Squeeze")) {
      // (n, 1) to (n).
      if (layers_.empty()) {
        widths_.push_back({&node, 1});
        return absl::OkStatus();
      }
      return graph_.Refuse(node, "is supported only at the end, for a network with one output");
    }
    return absl::OkStatus();
  }

  absl::Status CheckReshape(const NodeProto& node) {
    flattens_ = true;
    if (node.input_size() < 2 || !graph_.IsConstant(node.input(1))) {
      return graph_.Refuse(node, "must have a constant shape");
    }
    const auto shape = graph_.Constant(node.input(1));
    if (!shape.ok()) return shape.status();
    const std::vector<double>& dims = shape->values;
    // (n, 1) to (n), as scikit-learn's regressions end.
    if (dims.size() == 1 && dims[0] == -1 && layers_.empty()) {
      widths_.push_back({&node, 1});
      return absl::OkStatus();
    }
    constexpr double kMostColumns = 1U << 31;
    const bool copies = OnnxInteger(node, "allowzero", 0) == 0;
    const bool keeps = dims.size() == 2 &&
                       (dims[0] == -1 || (dims[0] == 0 && copies) || IsRowCount(dims[0])) &&
                       (dims[1] == -1 || (dims[1] > 0 && dims[1] <= kMostColumns));
    if (!keeps) {
      return graph_.Refuse(node, "must have a shape of (-1, columns), so that it keeps the rows");
    }
    if (dims[1] > 0) widths_.push_back({&node, static_cast<int64_t>(dims[1])});
    return absl::OkStatus();
  }
  // Whether the graph is made for this number of rows only.
  bool IsRowCount(double count) const {
    const auto& shape = input_->type().tensor_type().shape();
    return shape.dim_size() > 0 && shape.dim(0).has_dim_value() &&
           static_cast<double>(shape.dim(0).dim_value()) == count;
  }

  absl::Status CheckWidths(int64_t width) {
    for (const auto& [node, columns] : widths_) {
      if (columns != width) {
        return graph_.Refuse(
            *node, absl::StrCat("changes the number of columns from ", width, " to ", columns));
      }
    }
    widths_.clear();
    return absl::OkStatus();
  }

  // Skips what turns the scores of the last layer into the form of the output: ZipMap, the
  // probabilities of both classes made from that of one, Softmax.
  absl::Status ReadEnd() {
    value_ = output_->name();
    absl::StatusOr<std::string> source = Source(value_);
    if (!source.ok()) return source.status();
    const NodeProto* node = graph_.Producer(*source);
    if (node != nullptr && node->domain() == "ai.onnx.ml" && node->op_type() == "ZipMap" &&
        node->input_size() == 1) {
      ReadZipMap(*node);
      source = Source(node->input(0));
      if (!source.ok()) return source.status();
      node = graph_.Producer(*source);
    }
    if (node != nullptr && IsOnnxOp(*node, "Concat")) {
      source = PositiveClassOf(*node);
      if (!source.ok()) return source.status();
      node = graph_.Producer(*source);
    }
    value_ = *source;
    if (node == nullptr) return absl::OkStatus();
    if (!IsOnnxOp(*node, "Softmax") && !IsOnnxOp(*node, "LogSoftmax")) return absl::OkStatus();
    const int64_t axis = OnnxInteger(*node, "axis", graph_.opset() >= 13 ? -1 : 1);
    if (axis != 1 && axis != -1) {
      return graph_.Refuse(*node,
                           absl::StrCat("must be along the columns (axis 1 or -1), got ", axis));
    }
    if (node->input_size() != 1) return graph_.Refuse(*node, "must have one input");
    softmax_ = node;
    value_ = node->input(0);
    return absl::OkStatus();
  }

  void ReadZipMap(const NodeProto& node) {
    if (const auto* names = OnnxAttribute(node, "classlabels_strings")) {
      class_names_.assign(names->strings().begin(), names->strings().end());
    } else if (const auto* numbers = OnnxAttribute(node, "classlabels_int64s")) {
      bool indices = true;
      for (int i = 0; i < numbers->ints_size(); ++i) {
        indices = indices && numbers->ints(i) == i;
        class_names_.push_back(absl::StrCat(numbers->ints(i)));
      }
      if (indices) class_names_.clear();
    }
  }

  // The p of Concat(1 − p, p).
  absl::StatusOr<std::string> PositiveClassOf(const NodeProto& node) {
    const int64_t axis = OnnxInteger(node, "axis", 1);
    if (node.input_size() != 2 || (axis != 1 && axis != -1)) {
      return graph_.Refuse(node, "joins values; only the probabilities 1 - p and p are supported");
    }
    const auto rest = Source(node.input(0));
    auto positive = Source(node.input(1));
    if (!rest.ok()) return rest;
    if (!positive.ok()) return positive;
    const NodeProto* minus = graph_.Producer(*rest);
    bool complements = minus != nullptr && IsOnnxOp(*minus, "Sub") && minus->input_size() == 2 &&
                       graph_.IsConstant(minus->input(0));
    if (complements) {
      const auto one = graph_.Constant(minus->input(0));
      if (!one.ok()) return one.status();
      const auto of = Source(minus->input(1));
      if (!of.ok()) return of;
      complements = one->values.size() == 1 && one->values[0] == 1 && *of == *positive;
    }
    if (!complements) {
      return graph_.Refuse(node, "joins values; only the probabilities 1 - p and p are supported");
    }
    return positive;
  }

  // From the last layer to the first, and the standardisation before it.
  absl::Status ReadLayers() {
    for (;;) {
      region_ = {};
      const auto expression = Build(value_, nullptr);
      if (!expression.ok()) return expression.status();
      if (!region_.argument.has_value()) {
        return Refuse(absl::StrCat("value ", base::Quote(value_), " does not depend on the input"));
      }
      if (graph_.IsInput(*region_.argument)) return ReadBeginning(**expression);
      auto linear = ReadLinear(*region_.argument);
      if (!linear.ok()) return linear.status();
      const auto activation = RecognizeActivation(**expression);
      if (!activation.has_value()) return RefuseRegion(**expression, "no activation of a layer");
      const absl::Status added = AddLayer(*linear, *activation);
      if (!added.ok()) return added;
      value_ = std::move(linear->input);
      flattens_ = false;
    }
  }

  absl::Status RefuseRegion(const Expression& expression, absl::string_view why) const {
    const NodeProto* node = region_.top;
    const std::string text = absl::StrCat("computes ", ToText(expression), ", which is ", why);
    return node == nullptr ? Refuse(text) : graph_.Refuse(*node, text);
  }

  // The function that computes `name` from the last dense layer before it, or from the input.
  // `user` is the last node with several inputs that needs it; null: none.
  absl::StatusOr<const Expression*> Build(const std::string& name, const NodeProto* user) {
    const auto source = Source(name);
    if (!source.ok()) return source.status();
    const auto [it, added] = region_.built.insert({*source, nullptr});
    if (!added) return it->second;
    if (region_.built.size() > static_cast<size_t>(kMaxElementwiseNodes)) {
      return Refuse(absl::StrCat("value ", base::Quote(name), ": more than ", kMaxElementwiseNodes,
                                 " elementwise nodes follow each other"));
    }
    auto expression = BuildSource(*source, user);
    if (!expression.ok()) return expression.status();
    region_.expressions.push_back(*std::move(expression));
    return region_.built[*source] = &region_.expressions.back();
  }

  absl::StatusOr<Expression> BuildSource(const std::string& value, const NodeProto* user) {
    Expression out;
    if (graph_.IsConstant(value)) return BuildConstant(value);
    const NodeProto* node = graph_.Producer(value);
    absl::StatusOr<bool> is_linear = false;
    if (node != nullptr) is_linear = IsLinear(*node);
    if (!is_linear.ok()) return is_linear.status();
    if (node == nullptr || *is_linear) {
      if (region_.argument.has_value() && *region_.argument != value) {
        return graph_.Refuse(
            *user, absl::StrCat("joins ", base::Quote(*region_.argument), " and ",
                                base::Quote(value), "; networks with branches are not supported"));
      }
      region_.argument = value;
      return out;
    }
    if (region_.top == nullptr) region_.top = node;
    out.kind = Expression::Kind::kApply;
    if (node->domain() == "ai.onnx.ml" && node->op_type() == "Scaler")
      return BuildScaler(*node, user);
    const bool erf = node->domain() == kOnnxDomain && node->op_type() == kErfName;
    const int inputs = erf ? 1 : ElementwiseInputs(*node);
    if (inputs == 0) return RefuseOp(*node);
    if (erf && !DefinesErf()) return graph_.Refuse(*node, "its function is not the one expected");
    absl::Status status = CheckAttributes(*node);
    if (!status.ok()) return status;
    out.op = erf ? "Erf" : node->op_type();
    // Attributes are float32 in a graph of float64 as well; the model had a number that is rounded.
    if (out.op == "LeakyRelu") out.parameter = Shortest(OnnxFloat(*node, "alpha", 0.01F));
    if (out.op == "Elu") out.parameter = Shortest(OnnxFloat(*node, "alpha", 1));
    if (node->input_size() != inputs) {
      return graph_.Refuse(*node,
                           absl::StrCat("must have ", inputs, " inputs, got ", node->input_size()));
    }
    for (const std::string& input : node->input()) {
      if (input.empty()) return graph_.Refuse(*node, "an input is missing");
      const auto built = Build(input, inputs > 1 ? node : user);
      if (!built.ok()) return built.status();
      if (*built == nullptr) return graph_.Refuse(*node, "depends on itself");
      out.inputs.push_back(*built);
    }
    return out;
  }

  absl::StatusOr<Expression> BuildConstant(const std::string& value) {
    auto numbers = graph_.Constant(value);
    if (!numbers.ok()) return numbers.status();
    // Only the last dimension may be more than 1: the columns.
    const bool row = numbers->dims.empty() ||
                     numbers->dims.back() == static_cast<int64_t>(numbers->values.size());
    if (!row || numbers->values.empty() || numbers->dims.size() > 2) {
      return Refuse(absl::StrCat("constant ", base::Quote(value),
                                 " must be a number, or one number for each column"));
    }
    const size_t columns = numbers->values.size();
    if (columns > 1 && region_.columns > 1 && columns != region_.columns) {
      return Refuse(absl::StrCat("constant ", base::Quote(value), " has ", columns,
                                 " numbers, another one has ", region_.columns));
    }
    region_.columns = std::max(region_.columns, columns);
    Expression out;
    out.kind = Expression::Kind::kConstant;
    out.constant = std::move(numbers->values);
    return out;
  }

  // (x − offset)·scale
  absl::StatusOr<Expression> BuildScaler(const NodeProto& node, const NodeProto* user) {
    const auto* offset = OnnxAttribute(node, "offset");
    const auto* scale = OnnxAttribute(node, "scale");
    if (node.input_size() != 1 || offset == nullptr || scale == nullptr ||
        offset->floats().empty() || scale->floats().empty()) {
      return graph_.Refuse(node, "must have one input, an offset and a scale");
    }
    const auto constant = [&](const google::protobuf::RepeatedField<float>& floats) {
      Expression& out = region_.expressions.emplace_back();
      out.kind = Expression::Kind::kConstant;
      out.constant.assign(floats.begin(), floats.end());
      return &out;
    };
    const auto x = Build(node.input(0), user);
    if (!x.ok()) return x.status();
    if (*x == nullptr) return graph_.Refuse(node, "depends on itself");
    Expression& centred = region_.expressions.emplace_back();
    centred.kind = Expression::Kind::kApply;
    centred.op = "Sub";
    centred.inputs = {*x, constant(offset->floats())};
    Expression out;
    out.kind = Expression::Kind::kApply;
    out.op = "Mul";
    out.inputs = {&centred, constant(scale->floats())};
    return out;
  }

  absl::Status CheckAttributes(const NodeProto& node) const {
    if (IsOnnxOp(node, "Gelu")) {
      const auto* approximate = OnnxAttribute(node, "approximate");
      if (approximate != nullptr && approximate->s() != "none") {
        return graph_.Refuse(node, "is an approximation; the GELU of a model is exact");
      }
    }
    if (IsOnnxOp(node, "Swish") && OnnxFloat(node, "alpha", 1) != 1) {
      return graph_.Refuse(node, "must have alpha 1");
    }
    return absl::OkStatus();
  }

  absl::Status RefuseOp(const NodeProto& node) const {
    for (const onnx::FunctionProto& function : file_.functions()) {
      if (function.domain() == node.domain() && function.name() == node.op_type()) {
        return graph_.Refuse(node,
                             "calls a function of the file; inline it first "
                             "(onnx.inliner.inline_local_functions)");
      }
    }
    if (node.domain() == "ai.onnx.ml" && node.op_type() == "Normalizer") {
      return graph_.Refuse(node, "scales each row; a model standardises columns only");
    }
    return graph_.Refuse(node,
                         absl::StrCat("the operator ", OnnxOpName(node),
                                      " is not supported; docs/onnx.md lists those that are"));
  }

  bool DefinesErf() const {
    int found = 0;
    for (const onnx::FunctionProto& function : file_.functions()) {
      if (function.domain() != kOnnxDomain || function.name() != kErfName) continue;
      ++found;
      if (!IsErfFunction(function)) return false;
    }
    return found == 1;
  }

  // Whether the node is a dense layer: Gemm, MatMul, or the sum of one and a constant. Nodes that
  // do nothing may be between them.
  absl::StatusOr<bool> IsLinear(const NodeProto& node) {
    if (IsOnnxOp(node, "Gemm") || IsOnnxOp(node, "MatMul")) return true;
    const auto term = TermOf(node);
    if (!term.ok() || term->empty()) return term.ok() ? absl::StatusOr<bool>(false) : term.status();
    const NodeProto* inner = graph_.Producer(*term);
    return inner != nullptr && (IsOnnxOp(*inner, "Gemm") || IsOnnxOp(*inner, "MatMul"));
  }

  // If the node adds a constant, the source of what it is added to; else empty.
  absl::StatusOr<std::string> TermOf(const NodeProto& node) {
    if (!IsOnnxOp(node, "Add") || node.input_size() != 2) return std::string();
    const bool first = graph_.IsConstant(node.input(0));
    if (first == graph_.IsConstant(node.input(1))) return std::string();
    return Source(node.input(first ? 1 : 0));
  }

  absl::StatusOr<Linear> ReadLinear(const std::string& value) {
    const NodeProto* node = graph_.Producer(value);
    if (!IsOnnxOp(*node, "Add")) {
      return IsOnnxOp(*node, "Gemm") ? ReadGemm(*node) : ReadMatMul(*node);
    }
    const auto term = TermOf(*node);
    if (!term.ok()) return term.status();
    const NodeProto* inner = graph_.Producer(*term);
    auto linear = IsOnnxOp(*inner, "Gemm") ? ReadGemm(*inner) : ReadMatMul(*inner);
    if (!linear.ok()) return linear;
    const absl::Status added =
        AddBias(*node, node->input(graph_.IsConstant(node->input(0)) ? 0 : 1), 1, &*linear);
    if (!added.ok()) return added;
    return linear;
  }

  // alpha·A·B + beta·C, where A may be transposed by transA and B by transB.
  absl::StatusOr<Linear> ReadGemm(const NodeProto& node) {
    if (node.input_size() < 2) return graph_.Refuse(node, "must have at least two inputs");
    if (OnnxInteger(node, "transA", 0) != 0) {
      return graph_.Refuse(node, "transA must be 0, because it exchanges rows and columns");
    }
    auto linear = ReadWeights(node, OnnxInteger(node, "transB", 0) != 0);
    if (!linear.ok()) return linear;
    const double alpha = OnnxFloat(node, "alpha", 1);
    const double beta = OnnxFloat(node, "beta", 1);
    if (!std::isfinite(alpha) || !std::isfinite(beta)) {
      return graph_.Refuse(node, "alpha and beta must be finite");
    }
    if (alpha != 1) {
      for (double& weight : linear->weights.values) weight *= alpha;
    }
    if (node.input_size() < 3 || node.input(2).empty()) return linear;
    const absl::Status added = AddBias(node, node.input(2), beta, &*linear);
    if (!added.ok()) return added;
    return linear;
  }

  absl::StatusOr<Linear> ReadMatMul(const NodeProto& node) {
    if (node.input_size() != 2) return graph_.Refuse(node, "must have two inputs");
    return ReadWeights(node, false);
  }

  absl::StatusOr<Linear> ReadWeights(const NodeProto& node, bool transposed) {
    if (graph_.IsConstant(node.input(0)) || !graph_.IsConstant(node.input(1))) {
      return graph_.Refuse(node, "must multiply the rows by a constant matrix on the right");
    }
    Linear linear;
    linear.node = &node;
    linear.input = node.input(0);
    auto weights = graph_.Constant(node.input(1));
    if (!weights.ok()) return weights.status();
    if (weights->dims.size() != 2 || weights->values.empty() || !IsFloat(weights->type)) {
      return graph_.Refuse(node, "its second input must be a matrix of FLOAT or DOUBLE");
    }
    if (type_ == 0) type_ = weights->type;
    if (weights->type != type_) {
      return graph_.Refuse(node, "its weights have another type than those of later layers");
    }
    linear.weights = *std::move(weights);
    if (!transposed) return linear;
    const auto units = static_cast<size_t>(linear.weights.dims[0]);
    const auto inputs = static_cast<size_t>(linear.weights.dims[1]);
    std::vector<double> values(linear.weights.values.size());
    for (size_t u = 0; u < units; ++u) {
      for (size_t i = 0; i < inputs; ++i) {
        values[i * units + u] = linear.weights.values[u * inputs + i];
      }
    }
    linear.weights.values = std::move(values);
    std::swap(linear.weights.dims[0], linear.weights.dims[1]);
    return linear;
  }

  // Adds factor·constant to the bias.
  absl::Status AddBias(const NodeProto& node, const std::string& name, double factor,
                       Linear* linear) {
    if (!graph_.IsConstant(name)) return graph_.Refuse(node, "its bias must be a constant");
    const auto numbers = graph_.Constant(name);
    if (!numbers.ok()) return numbers.status();
    const auto units = static_cast<size_t>(linear->weights.dims[1]);
    const size_t size = numbers->values.size();
    const bool row = numbers->dims.empty() || numbers->dims.back() == static_cast<int64_t>(size);
    if ((size != units && size != 1) || !row || numbers->dims.size() > 2) {
      return graph_.Refuse(
          node, absl::StrCat("its bias must have one number for each of ", units, " units"));
    }
    linear->bias.resize(units, 0);
    for (size_t u = 0; u < units; ++u) {
      linear->bias[u] += factor * numbers->values[size == 1 ? 0 : u];
    }
    return absl::OkStatus();
  }

  absl::Status AddLayer(const Linear& linear, const RecognizedActivation& activation) {
    const int64_t inputs = linear.weights.dims[0];
    const int64_t units = linear.weights.dims[1];
    absl::Status widths = CheckWidths(units);
    if (!widths.ok()) return widths;
    if (region_.columns > 1 && region_.columns != static_cast<size_t>(units)) {
      return graph_.Refuse(*region_.top, absl::StrCat("a constant has ", region_.columns,
                                                      " numbers for ", units, " columns"));
    }
    if (!layers_.empty() && layers_.back().inputs != units) {
      return graph_.Refuse(*layers_.back().node,
                           absl::StrCat("expects ", layers_.back().inputs, " columns, but ",
                                        graph_.Describe(*linear.node), " has ", units, " units"));
    }
    parameters_ += inputs * units + units;
    if (parameters_ > options_.max_parameters) {
      return base::LimitError(
          "data", absl::StrCat("the model would have more parameters than the limit of ",
                               options_.max_parameters));
    }
    auto weights = Bytes(*linear.node, linear.weights.values, units * inputs);
    if (!weights.ok()) return weights.status();
    auto bias = Bytes(*linear.node, linear.bias, units);
    if (!bias.ok()) return bias.status();
    layers_.push_back(
        {linear.node, inputs, units, activation, *std::move(weights), *std::move(bias)});
    return absl::OkStatus();
  }

  // `count` numbers in the type of the model, 0 without numbers.
  absl::StatusOr<std::string> Bytes(const NodeProto& node, const std::vector<double>& values,
                                    int64_t count) const {
    const size_t size = type_ == TensorProto::FLOAT ? sizeof(float) : sizeof(double);
    std::string bytes(static_cast<size_t>(count) * size, '\0');
    for (size_t i = 0; i < values.size(); ++i) {
      const auto narrow = static_cast<float>(values[i]);
      if (!std::isfinite(size == sizeof(float) ? narrow : values[i])) {
        return graph_.Refuse(node, "its weights or its bias are too large for their type");
      }
      std::memcpy(bytes.data() + i * size,
                  size == sizeof(float) ? static_cast<const void*>(&narrow) : &values[i], size);
    }
    return bytes;
  }

  // The part before the first layer.
  absl::Status ReadBeginning(const Expression& expression) {
    if (layers_.empty()) return Refuse("the graph has no Gemm and no MatMul");
    const int64_t columns = layers_.back().inputs;
    absl::Status widths = CheckWidths(columns);
    if (!widths.ok()) return widths;
    auto standardization = RecognizeStandardization(expression, static_cast<size_t>(columns));
    if (!standardization.has_value()) {
      return RefuseRegion(expression, "no standardisation (x - mean) / std of the input");
    }
    standardization_ = *std::move(standardization);
    const auto& type = input_->type().tensor_type();
    if (!type.has_shape()) return absl::OkStatus();
    const int rank = type.shape().dim_size();
    const std::string name = absl::StrCat("input ", base::Quote(input_->name()));
    if (rank < 2 || (rank > 2 && !flattens_)) {
      return Refuse(absl::StrCat(name, " must have two dimensions, rows and columns, got ", rank));
    }
    if (rank > 2 && !standardization_.mean.empty()) {
      return Refuse(absl::StrCat(name, " has ", rank,
                                 " dimensions and is standardised; only a matrix can be"));
    }
    int64_t product = 1;
    for (int i = 1; i < rank; ++i) {
      if (!type.shape().dim(i).has_dim_value()) return absl::OkStatus();
      const int64_t dim = type.shape().dim(i).dim_value();
      if (dim < 1 || dim > columns) product = -1;
      if (product > 0) product = product > columns / dim ? -1 : product * dim;
    }
    if (product == columns) return absl::OkStatus();
    return Refuse(absl::StrCat(name, " must have ", columns, " columns, as ",
                               graph_.Describe(*layers_.back().node), " expects"));
  }

  // The loss that the graph suggests or allows, and what the last layer, layers_.front(), becomes
  // with it.
  absl::Status ChooseLoss(const v1::ModelSpec* kept, v1::ModelSpec* spec) {
    v1::Activation& last = layers_.front().activation.activation;
    const bool softmax = softmax_ != nullptr;
    const bool sigmoid = !softmax && last == v1::ACTIVATION_SIGMOID;
    v1::Loss* loss = spec->mutable_loss();
    if (options_.loss != nullptr && options_.loss->kind_case() != v1::Loss::KIND_NOT_SET) {
      *loss = *options_.loss;
    } else if (kept != nullptr) {
      *loss = kept->loss();
    } else if (softmax) {
      loss->mutable_softmax_cross_entropy();
    } else if (sigmoid) {
      loss->mutable_binary_cross_entropy();
    } else {
      loss->mutable_mean_squared_error();
    }
    const bool cross = loss->has_softmax_cross_entropy();
    const bool binary = loss->has_binary_cross_entropy();
    const auto refuse = [&](absl::string_view reason) {
      const NodeProto* node = softmax ? softmax_ : layers_.front().node;
      return graph_.Refuse(*node, reason);
    };
    if (softmax && last != v1::ACTIVATION_IDENTITY) {
      return refuse("must follow a dense layer without an activation");
    }
    if (softmax && !cross) {
      return refuse(
          "the graph ends with probabilities of one class out of several; the loss must "
          "be softmax_cross_entropy");
    }
    if (cross && !softmax && last != v1::ACTIVATION_IDENTITY) {
      return refuse("with the loss softmax_cross_entropy the last layer must have no activation");
    }
    if (binary) {
      if (!sigmoid && last != v1::ACTIVATION_IDENTITY) {
        return refuse(
            "with the loss binary_cross_entropy the last layer must have no activation "
            "or Sigmoid");
      }
      last = v1::ACTIVATION_IDENTITY;
    }
    return absl::OkStatus();
  }

  absl::Status BuildModel() {
    OnnxMetadata metadata;
    absl::Status status = ReadOnnxMetadata(file_, &metadata);
    if (!status.ok()) return status;
    v1::ModelSpec* spec = model_.mutable_model()->mutable_spec();
    status = ChooseLoss(metadata.has_spec ? &metadata.spec : nullptr, spec);
    if (!status.ok()) return status;
    std::reverse(layers_.begin(), layers_.end());
    AddSpec(spec);
    AddParameters();
    if (metadata.has_spec) {
      status = Adopt(metadata.spec, spec);
      if (!status.ok()) return status;
    }
    if (options_.optimizer != nullptr) *spec->mutable_optimizer() = *options_.optimizer;
    status = AddNames(metadata, spec);
    if (!status.ok()) return status;
    *model_.mutable_model()->mutable_labels() = std::move(metadata.labels);
    return absl::OkStatus();
  }

  void AddSpec(v1::ModelSpec* spec) const {
    spec->set_input_size(static_cast<int32_t>(layers_.front().inputs));
    spec->set_data_type(type_ == TensorProto::FLOAT ? v1::DATA_TYPE_FLOAT32
                                                    : v1::DATA_TYPE_FLOAT64);
    const auto parameter = [&](double value) {
      return type_ == TensorProto::FLOAT ? Shortest(static_cast<float>(value)) : value;
    };
    for (const Layer& layer : layers_) {
      v1::Layer* out = spec->add_layers();
      out->set_units(static_cast<int32_t>(layer.units));
      out->set_activation(layer.activation.activation);
      if (const auto slope = layer.activation.negative_slope) {
        out->set_negative_slope(parameter(*slope));
      }
      if (const auto alpha = layer.activation.alpha) out->set_alpha(parameter(*alpha));
    }
    if (standardization_.mean.empty()) return;
    auto* out = spec->mutable_input_standardization();
    out->mutable_mean()->Add(standardization_.mean.begin(), standardization_.mean.end());
    out->mutable_std()->Add(standardization_.std.begin(), standardization_.std.end());
  }

  void AddParameters() {
    v1::Parameters* parameters = model_.mutable_parameters();
    const auto add = [&](const std::string& name, std::initializer_list<int64_t> shape,
                         std::string bytes) {
      v1::NamedTensor* tensor = parameters->add_tensors();
      tensor->set_name(name);
      for (const int64_t dim : shape) tensor->mutable_tensor()->add_shape(static_cast<int>(dim));
      tensor->mutable_tensor()->set_raw(std::move(bytes));
      tensor->mutable_tensor()->set_data_type(type_ == TensorProto::FLOAT ? v1::DATA_TYPE_FLOAT32
                                                                          : v1::DATA_TYPE_FLOAT64);
      tensor->mutable_tensor()->set_byte_order(v1::BYTE_ORDER_LITTLE_ENDIAN);
    };
    for (size_t i = 0; i < layers_.size(); ++i) {
      Layer& layer = layers_[i];
      const std::string prefix = absl::StrCat("layers[", i, "]");
      add(prefix + ".weights", {layer.inputs, layer.units}, std::move(layer.weights));
      add(prefix + ".bias", {layer.units}, std::move(layer.bias));
    }
  }

  // Takes from the spec that ExportOnnx wrote what the graph does not say.
  absl::Status Adopt(v1::ModelSpec kept, v1::ModelSpec* spec) {
    const auto type = kept.data_type();
    bool same = kept.input_size() == spec->input_size() && type == spec->data_type() &&
                kept.layers_size() == spec->layers_size();
    for (int i = 0; same && i < kept.layers_size(); ++i) {
      v1::Layer& was = *kept.mutable_layers(i);
      const v1::Layer& now = spec->layers(i);
      // The caller's loss may make a Sigmoid at the end an activation of the last layer.
      if (i + 1 == kept.layers_size() && options_.loss != nullptr) {
        was.set_activation(now.activation());
      }
      same = was.units() == now.units() && was.activation() == now.activation() &&
             SameNumber(was.negative_slope(), now.negative_slope()) &&
             SameNumber(was.alpha(), now.alpha());
    }
    if (!same) {
      return Refuse(absl::StrCat("metadata_props[", base::Quote(kSpecKey),
                                 "] describes another network than the graph; remove it"));
    }
    *spec->mutable_layers() = kept.layers();
    *spec->mutable_optimizer() = kept.optimizer();
    spec->set_seed(kept.seed());
    if (!kept.has_input_standardization() || !spec->has_input_standardization()) {
      return absl::OkStatus();
    }
    // It was fitted by a run, so its numbers are state.
    model_.mutable_parameters()->mutable_input_standardization()->Swap(
        spec->mutable_input_standardization());
    spec->mutable_input_standardization()->Clear();
    return absl::OkStatus();
  }
  // As far as the precision of the model shows.
  bool SameNumber(double a, double b) const {
    return type_ == TensorProto::FLOAT ? static_cast<float>(a) == static_cast<float>(b) : a == b;
  }

  // The names in the metadata, else the labels of scikit-learn's classes.
  absl::Status AddNames(const OnnxMetadata& metadata, v1::ModelSpec* spec) {
    for (const std::string& name : class_names_) {
      if (base::ValidUtf8(name) != name) {
        return Refuse(absl::StrCat("class label ", base::Quote(name), " is not valid UTF-8"));
      }
    }
    *spec->mutable_feature_names() = {metadata.feature_names.begin(), metadata.feature_names.end()};
    const bool cross = spec->loss().has_softmax_cross_entropy();
    if (!cross && !spec->loss().has_binary_cross_entropy()) return absl::OkStatus();
    const auto& names = metadata.class_names.empty() ? class_names_ : metadata.class_names;
    *spec->mutable_class_names() = {names.begin(), names.end()};
    return absl::OkStatus();
  }

  struct Layer {
    const NodeProto* node;
    int64_t inputs;
    int64_t units;
    RecognizedActivation activation;
    std::string weights;  // (inputs, units) in the type of the model
    std::string bias;     // (units)
  };
  // Elementwise nodes between two dense layers.
  struct Region {
    Expressions expressions;
    absl::flat_hash_map<std::string, const Expression*> built;  // by value
    std::optional<std::string> argument;
    const NodeProto* top = nullptr;
    size_t columns = 1;  // of the constants
  };

  const onnx::ModelProto& file_;
  const OnnxGraph graph_;
  const OnnxImportOptions options_;
  const onnx::ValueInfoProto* input_ = nullptr;
  const onnx::ValueInfoProto* output_ = nullptr;
  std::string value_;                                         // the one to be read next
  absl::flat_hash_set<std::string> path_;                     // values that were read
  std::vector<std::pair<const NodeProto*, int64_t>> widths_;  // to be checked; number of columns
  bool flattens_ = false;               // since the last dense layer that was read
  const NodeProto* softmax_ = nullptr;  // Softmax or LogSoftmax at the end
  Region region_;
  int32_t type_ = 0;           // of the weights
  std::vector<Layer> layers_;  // the last one first
  int64_t parameters_ = 0;
  RecognizedStandardization standardization_;
  std::vector<std::string> class_names_;
  v1::ModelFile model_;
};

}  // namespace

absl::StatusOr<v1::ModelFile> ImportOnnx(absl::string_view bytes,
                                         const OnnxImportOptions& options) {
  const auto file = ParseOnnx(bytes);
  if (!file.ok()) return file.status();
  // Each weight is needed once; the numbers of standardisations and activations are few beside.
  constexpr int64_t kOtherNumbers = 1 << 20;
  auto graph = OnnxGraph::Of(**file, 2 * options.max_parameters + kOtherNumbers);
  if (!graph.ok()) return graph.status();
  return Reader(**file, *std::move(graph), options).Read();
}

}  // namespace backprop::transfer
