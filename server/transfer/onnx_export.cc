#include "server/transfer/onnx_export.h"

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/engine/loss.h"
#include "server/transfer/onnx_erf.h"
#include "server/transfer/onnx_format.h"
#include "server/transfer/onnx_metadata.h"

namespace backprop::transfer {
namespace {

using engine::Activation;
using engine::DataType;
using engine::Loss;
using Inputs = std::initializer_list<std::string>;

constexpr char kRows[] = "rows";  // the name of n in shapes

int32_t TypeOf(DataType type) {
  return type == DataType::kFloat32 ? onnx::TensorProto::FLOAT : onnx::TensorProto::DOUBLE;
}

// Builds the graph of one state. Values have n rows; d features and k outputs.
class Writer {
 public:
  Writer(const v1::Model& model, const engine::Network& network, const engine::State& state,
         onnx::ModelProto* file)
      : model_(model),
        network_(network),
        state_(state),
        type_(network.spec().data_type),
        file_(file),
        graph_(file->mutable_graph()) {}

  void Write() {
    graph_->set_name(model_.name());
    AddValue(graph_->add_input(), "inputs", TypeOf(type_), {network_.inputs()});
    std::string x = Standardized("inputs");
    const auto layers = static_cast<int64_t>(network_.layers().size());
    for (int64_t i = 0; i + 1 < layers; ++i) {
      const std::string prefix = absl::StrCat("layers[", i, "]");
      const std::string z = Linear(i, x, prefix + ".z");
      x = Activated(network_.layers()[static_cast<size_t>(i)].spec, z, prefix, prefix + ".output");
    }
    WriteOutputs(Linear(layers - 1, x, "z"), absl::StrCat("layers[", layers - 1, "]"));
  }

 private:
  std::string Node(const char* op, Inputs inputs, const std::string& output,
                   onnx::NodeProto** node = nullptr) {
    onnx::NodeProto* added = graph_->add_node();
    added->set_op_type(op);
    added->set_name(absl::StrCat(output, "/", op));
    for (const std::string& input : inputs) added->add_input(input);
    added->add_output(output);
    if (node != nullptr) *node = added;
    return output;
  }
  static void SetInteger(onnx::NodeProto* node, const char* name, int64_t value) {
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name(name);
    attribute->set_type(onnx::AttributeProto::INT);
    attribute->set_i(value);
  }
  static void SetFloat(onnx::NodeProto* node, const char* name, double value) {
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name(name);
    attribute->set_type(onnx::AttributeProto::FLOAT);
    attribute->set_f(static_cast<float>(value));
  }

  // A matrix of n rows, or a vector of n elements without `columns`.
  static void AddValue(onnx::ValueInfoProto* value, const std::string& name, int32_t type,
                       std::initializer_list<int64_t> columns) {
    value->set_name(name);
    auto* tensor = value->mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(type);
    tensor->mutable_shape()->add_dim()->set_dim_param(kRows);
    for (const int64_t dim : columns) tensor->mutable_shape()->add_dim()->set_dim_value(dim);
  }

  std::string Tensor(const std::string& name, int32_t type, std::initializer_list<int64_t> dims,
                     const void* elements, int64_t bytes) {
    onnx::TensorProto* tensor = graph_->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(type);
    for (const int64_t dim : dims) tensor->add_dims(dim);
    tensor->set_raw_data(elements, static_cast<size_t>(bytes));
    return name;
  }
  std::string Doubles(const std::string& name, const std::vector<double>& values) {
    return Tensor(name, onnx::TensorProto::DOUBLE, {static_cast<int64_t>(values.size())},
                  values.data(), static_cast<int64_t>(values.size() * sizeof(double)));
  }
  // A scalar in the precision of the model.
  std::string Scalar(const std::string& name, double value) {
    const auto narrow = static_cast<float>(value);
    const bool is_float = type_ == DataType::kFloat32;
    return Tensor(name, TypeOf(type_), {}, is_float ? static_cast<const void*>(&narrow) : &value,
                  engine::SizeOf(type_));
  }

  // (x − mean) / std, in float64 as the engine computes it.
  std::string Standardized(const std::string& x) {
    if (network_.spec().standardize == engine::Standardize::kNo) return x;
    const engine::Standardization& numbers = *state_.standardization;
    onnx::NodeProto* cast;
    const bool casts = type_ == DataType::kFloat32;
    std::string wide = x;
    if (casts) {
      wide = Node("Cast", {x}, "inputs.float64", &cast);
      SetInteger(cast, "to", onnx::TensorProto::DOUBLE);
    }
    const std::string centred =
        Node("Sub", {wide, Doubles("input_standardization.mean", numbers.mean)}, "inputs.centred");
    const std::string scaled =
        Node("Div", {centred, Doubles("input_standardization.std", numbers.std)},
             casts ? "inputs.scaled" : "inputs.standardized");
    if (!casts) return scaled;
    Node("Cast", {scaled}, "inputs.standardized", &cast);
    SetInteger(cast, "to", onnx::TensorProto::FLOAT);
    return "inputs.standardized";
  }

  // x·W + b: (n, inputs)·(inputs, units) + (units)
  std::string Linear(int64_t layer, const std::string& x, const std::string& output) {
    const engine::LayerPlan& plan = network_.layers()[static_cast<size_t>(layer)];
    const int64_t size = engine::SizeOf(type_);
    const auto at = [&](int64_t offset) { return state_.values.bytes() + offset * size; };
    const std::string prefix = absl::StrCat("layers[", layer, "]");
    const std::string weights =
        Tensor(prefix + ".weights", TypeOf(type_), {plan.inputs, plan.units},
               at(plan.weights_offset), plan.inputs * plan.units * size);
    const std::string bias = Tensor(prefix + ".bias", TypeOf(type_), {plan.units},
                                    at(plan.bias_offset), plan.units * size);
    return Node("Gemm", {x, weights, bias}, output);
  }

  // activation(z). ONNX Runtime has no LeakyRelu, Elu, Softplus and Erf in float64, so they are
  // composed there.
  std::string Activated(const engine::LayerSpec& layer, const std::string& z,
                        const std::string& prefix, const std::string& a) {
    const auto name = [&](const char* part) { return absl::StrCat(prefix, ".", part); };
    const bool composed = type_ == DataType::kFloat64;
    onnx::NodeProto* node = nullptr;
    switch (layer.activation) {
      case Activation::kIdentity:
        return Node("Identity", {z}, a);
      case Activation::kRelu:
        return Node("Relu", {z}, a);
      case Activation::kTanh:
        return Node("Tanh", {z}, a);
      case Activation::kSigmoid:
        return Node("Sigmoid", {z}, a);
      case Activation::kLeakyRelu:
        if (composed) {  // max(z, slope·z), since slope < 1
          const std::string slope = Scalar(name("negative_slope"), layer.negative_slope);
          return Node("Max", {z, Node("Mul", {z, slope}, name("scaled"))}, a);
        }
        Node("LeakyRelu", {z}, a, &node);
        SetFloat(node, "alpha", layer.negative_slope);
        return a;
      case Activation::kElu:
        if (composed) {  // max(z, 0) + alpha·(exp(min(z, 0)) − 1)
          const std::string zero = Scalar(name("zero"), 0);
          const std::string exp =
              Node("Exp", {Node("Min", {z, zero}, name("negative"))}, name("exp"));
          const std::string less = Node("Sub", {exp, Scalar(name("one"), 1)}, name("expm1"));
          const std::string low =
              Node("Mul", {less, Scalar(name("alpha"), layer.alpha)}, name("low"));
          return Node("Add", {Node("Max", {z, zero}, name("positive")), low}, a);
        }
        Node("Elu", {z}, a, &node);
        SetFloat(node, "alpha", layer.alpha);
        return a;
      case Activation::kGelu: {  // 0.5·z·(1 + erf(z/√2))
        const std::string scaled =
            Node("Div", {z, Scalar(name("sqrt2"), std::numbers::sqrt2)}, name("scaled"));
        const std::string erf =
            composed ? Erf64(scaled, name("erf")) : Node("Erf", {scaled}, name("erf"));
        const std::string more = Node("Add", {erf, Scalar(name("one"), 1)}, name("erf1p"));
        const std::string twice = Node("Mul", {z, more}, name("twice"));
        return Node("Mul", {twice, Scalar(name("half"), 0.5)}, a);
      }
      case Activation::kSilu:
        return Node("Mul", {z, Node("Sigmoid", {z}, name("sigmoid"))}, a);
      case Activation::kSoftplus:
        if (composed) {  // max(z, 0) + log(1 + exp(−|z|))
          const std::string size = Node("Abs", {z}, name("abs"));
          const std::string exp = Node("Exp", {Node("Neg", {size}, name("negative"))}, name("exp"));
          const std::string more = Node("Add", {exp, Scalar(name("one"), 1)}, name("exp1p"));
          const std::string log = Node("Log", {more}, name("log"));
          const std::string high = Node("Max", {z, Scalar(name("zero"), 0)}, name("positive"));
          return Node("Add", {high, log}, a);
        }
        return Node("Softplus", {z}, a);
    }
    return z;
  }

  std::string Erf64(const std::string& x, const std::string& output) {
    if (file_->functions_size() == 0) {
      *file_->add_functions() = ErfFunction();
      onnx::OperatorSetIdProto* set = file_->add_opset_import();
      set->set_domain(kOnnxDomain);
      set->set_version(1);
    }
    onnx::NodeProto* node;
    Node(kErfName, {x}, output, &node);
    node->set_domain(kOnnxDomain);
    return output;
  }

  void Output(const std::string& name) {
    AddValue(graph_->add_output(), name, TypeOf(type_), {network_.outputs()});
  }

  // From z (n, k) of the last layer.
  void WriteOutputs(const std::string& z, const std::string& prefix) {
    const Loss loss = network_.spec().loss.kind;
    if (!engine::Classifies(loss)) {
      Activated(network_.layers().back().spec, z, prefix, "predictions");
      return Output("predictions");
    }
    Node("Identity", {z}, "logits");
    onnx::NodeProto* node;
    if (loss == Loss::kSoftmaxCrossEntropy) {
      Node("Softmax", {"logits"}, "probabilities", &node);
      SetInteger(node, "axis", 1);
    } else {
      Node("Sigmoid", {"logits"}, "probabilities");
    }
    Output("probabilities");
    Output("logits");
    WriteLabel();
  }

  // The class of each row, as Predict chooses it: its name if there are names, else its index.
  void WriteLabel() {
    const Loss loss = network_.spec().loss.kind;
    if (engine::ClassesOf(loss, network_.outputs()) == 0) return;
    const auto& names = model_.spec().class_names();
    const std::string index = names.empty() ? "label" : "class_index";
    onnx::NodeProto* node;
    if (loss == Loss::kSoftmaxCrossEntropy) {
      Node("ArgMax", {"logits"}, index, &node);
      SetInteger(node, "axis", 1);
      SetInteger(node, "keepdims", 0);
    } else {
      const int64_t all = -1;
      Node("Greater", {"logits", Scalar("logits.zero", 0)}, "logits.positive");
      Node("Cast", {"logits.positive"}, "class_index.column", &node);
      SetInteger(node, "to", onnx::TensorProto::INT64);
      Node("Reshape",
           {"class_index.column", Tensor("class_index.shape", onnx::TensorProto::INT64, {1}, &all,
                                         static_cast<int64_t>(sizeof all))},
           index);
    }
    if (!names.empty()) {
      onnx::TensorProto* tensor = graph_->add_initializer();
      tensor->set_name("class_names");
      tensor->set_data_type(onnx::TensorProto::STRING);
      tensor->add_dims(names.size());
      for (const std::string& name : names) tensor->add_string_data(name);
      Node("Gather", {"class_names", index}, "label");
    }
    AddValue(graph_->add_output(), "label",
             names.empty() ? onnx::TensorProto::INT64 : onnx::TensorProto::STRING, {});
  }

  const v1::Model& model_;
  const engine::Network& network_;
  const engine::State& state_;
  const DataType type_;
  onnx::ModelProto* const file_;
  onnx::GraphProto* const graph_;
};

}  // namespace

absl::StatusOr<std::string> ExportOnnx(const v1::Model& model, const engine::Network& network,
                                       const engine::State& state) {
  onnx::ModelProto file;
  file.set_ir_version(kOnnxIrVersion);
  file.set_producer_name("backpropd");
  file.set_domain(kOnnxDomain);
  file.set_model_version(model.step());
  file.add_opset_import()->set_version(kOnnxOpset);
  Writer(model, network, state, &file).Write();
  WriteOnnxMetadata(model, &file);
  std::string bytes;
  if (!file.SerializeToString(&bytes)) {
    return base::LimitError("model", "the exported file would exceed 2 GiB");
  }
  return bytes;
}

}  // namespace backprop::transfer
