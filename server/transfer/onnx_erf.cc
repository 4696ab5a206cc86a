#include "server/transfer/onnx_erf.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/transfer/onnx_format.h"

namespace backprop::transfer {
namespace {

// P(y) = Σ kErf[i]·y^i, computed with 40 digits from the expansion's first 28 terms.
constexpr double kErf[] = {
    -0x1.57f564e956ebep-1,  0x1.5864b151b8570p-1,   0x1.83d61c52414fbp-5,   -0x1.802b39089a823p-5,
    -0x1.43821ef9e213dp-7,  0x1.212cf33ef2cdfp-7,   0x1.cd18086d24471p-10,  -0x1.337867f1b9f45p-9,
    -0x1.32b3afd9ea950p-13, 0x1.6133a329034bep-11,  -0x1.8927392cf4747p-14, -0x1.6d8a2ea6933b1p-13,
    0x1.2b7a415129b2fp-14,  0x1.0a4c41215ba73p-15,  -0x1.fa77fa14f9940p-16, 0x1.27c4057cc43d0p-23,
    0x1.1f50600736e29p-17,  -0x1.8bac0ec966e51p-19, -0x1.55889bb91d9ccp-20, 0x1.4f8d3f2568c6fp-20,
    -0x1.69d8c26f64978p-23, -0x1.0bfced98bd081p-22, 0x1.494d755f5a3cbp-23,  0x1.8d2952cc7732bp-30,
    -0x1.507bbea157e3fp-25, 0x1.7fe10d8326c33p-27,  0x1.170fcb735fd75p-28,  -0x1.03ca94224abf1p-29};

class Body {
 public:
  explicit Body(onnx::FunctionProto* function) : function_(function) {}

  std::string Constant(double value) {
    onnx::NodeProto* node = Node("Constant", {});
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name("value");
    attribute->set_type(onnx::AttributeProto::TENSOR);
    attribute->mutable_t()->set_data_type(onnx::TensorProto::DOUBLE);
    attribute->mutable_t()->add_double_data(value);
    return node->output(0);
  }
  std::string Apply(const char* op, std::initializer_list<std::string> inputs) {
    return Node(op, inputs)->output(0);
  }
  void Return(const char* op, std::initializer_list<std::string> inputs) {
    Node(op, inputs)->set_output(0, function_->output(0));
  }

 private:
  onnx::NodeProto* Node(const char* op, std::initializer_list<std::string> inputs) {
    onnx::NodeProto* node = function_->add_node();
    node->set_op_type(op);
    for (const std::string& input : inputs) node->add_input(input);
    node->add_output(absl::StrCat("v", function_->node_size()));
    return node;
  }

  onnx::FunctionProto* const function_;
};

}  // namespace

onnx::FunctionProto ErfFunction() {
  onnx::FunctionProto function;
  function.set_domain(kOnnxDomain);
  function.set_name(kErfName);
  function.set_doc_string("The error function in float64, with an error of at most 5e-16.");
  function.add_input("x");
  function.add_output("erf");
  function.add_opset_import()->set_version(kOnnxOpset);
  Body body(&function);
  const std::string one = body.Constant(1);
  const std::string two = body.Constant(2);
  const std::string size = body.Apply("Abs", {"x"});
  const std::string t = body.Apply("Div", {two, body.Apply("Add", {size, two})});
  const std::string y = body.Apply("Sub", {body.Apply("Mul", {two, t}), one});
  constexpr int kTerms = sizeof(kErf) / sizeof(kErf[0]);
  std::string sum = body.Constant(kErf[kTerms - 1]);
  for (int i = kTerms - 2; i >= 0; --i) {
    sum = body.Apply("Add", {body.Apply("Mul", {sum, y}), body.Constant(kErf[i])});
  }
  const std::string power = body.Apply("Sub", {sum, body.Apply("Mul", {size, size})});
  const std::string erfc = body.Apply("Mul", {t, body.Apply("Exp", {power})});
  body.Return("Mul", {body.Apply("Sign", {"x"}), body.Apply("Sub", {one, erfc})});
  return function;
}

bool IsErfFunction(const onnx::FunctionProto& function) {
  return function.SerializeAsString() == ErfFunction().SerializeAsString();
}

}  // namespace backprop::transfer
