// Elementwise functions in ONNX graphs: which activation, or which standardisation, they are.
#ifndef BACKPROP_SERVER_TRANSFER_ONNX_EXPRESSION_H_
#define BACKPROP_SERVER_TRANSFER_ONNX_EXPRESSION_H_

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "backprop/v1/model.pb.h"

namespace backprop::transfer {

// A function of one value, made of operators of ONNX. Arguments are shared, so an expression is a
// graph; its size is limited by its creator.
struct Expression {
  enum class Kind { kArgument, kConstant, kApply };
  Kind kind = Kind::kArgument;
  std::vector<double> constant;  // kConstant: at least one number
  std::string op;                // kApply: "Mul"
  double parameter = 0;          // kApply of LeakyRelu and Elu: alpha
  std::vector<const Expression*> inputs;
};

// Owns expressions.
using Expressions = std::deque<Expression>;

// An activation and its parameters; unset fields of the layer.
struct RecognizedActivation {
  v1::Activation activation = v1::ACTIVATION_IDENTITY;
  std::optional<double> negative_slope;
  std::optional<double> alpha;
};

// Returns the activation that the expression computes from its argument: as one operator, or as the
// exporters of PyTorch and TensorFlow, and this server, compose it. Nothing if it is none.
std::optional<RecognizedActivation> RecognizeActivation(const Expression& expression);

// Returns the mean and std, `columns` numbers each, of an expression (x − mean) / std, which may be
// written by sums, differences, products and quotients with constants. Empty vectors for x itself.
// Nothing if it is none: if a std would not be positive or finite, among others.
struct RecognizedStandardization {
  std::vector<double> mean;
  std::vector<double> std;
};
std::optional<RecognizedStandardization> RecognizeStandardization(const Expression& expression,
                                                                  size_t columns);

// "Mul(x, Sigmoid(Mul(x, 1.702)))", at most some hundred bytes, for messages.
std::string ToText(const Expression& expression);

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_ONNX_EXPRESSION_H_
