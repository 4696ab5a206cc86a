#include "client/cli/spec_names.h"

#include <cstdio>
#include <variant>

namespace backprop::cli {
namespace {

template <class T>
std::string NameOf(const std::map<std::string, T>& all, T value) {
  for (const auto& [name, other] : all) {
    if (other == value) return name;
  }
  return "default";
}

}  // namespace

const std::map<std::string, Activation>& Activations() {
  static const auto* const all =
      new std::map<std::string, Activation>{{"identity", Activation::kIdentity},
                                            {"relu", Activation::kRelu},
                                            {"tanh", Activation::kTanh},
                                            {"sigmoid", Activation::kSigmoid},
                                            {"leaky_relu", Activation::kLeakyRelu},
                                            {"elu", Activation::kElu},
                                            {"gelu", Activation::kGelu},
                                            {"silu", Activation::kSilu},
                                            {"softplus", Activation::kSoftplus}};
  return *all;
}

const std::map<std::string, Initializer>& Initializers() {
  static const auto* const all =
      new std::map<std::string, Initializer>{{"default", Initializer::kDefault},
                                             {"he_normal", Initializer::kHeNormal},
                                             {"he_uniform", Initializer::kHeUniform},
                                             {"xavier_normal", Initializer::kXavierNormal},
                                             {"xavier_uniform", Initializer::kXavierUniform},
                                             {"zeros", Initializer::kZeros},
                                             {"constant", Initializer::kConstant},
                                             {"pytorch_linear", Initializer::kPytorchLinear}};
  return *all;
}

const std::map<std::string, Initializer>& BiasInitializers() {
  static const auto* const all =
      new std::map<std::string, Initializer>{{"default", Initializer::kDefault},
                                             {"zeros", Initializer::kZeros},
                                             {"constant", Initializer::kConstant},
                                             {"pytorch_linear", Initializer::kPytorchLinear}};
  return *all;
}

const std::vector<std::string>& LossNames() {
  static const auto* const all =
      new std::vector<std::string>{"softmax_cross_entropy", "binary_cross_entropy",
                                   "mean_squared_error", "mean_absolute_error", "huber"};
  return *all;
}

const std::vector<std::string>& OptimizerNames() {
  static const auto* const all =
      new std::vector<std::string>{"sgd", "adam", "adamw", "rmsprop", "adagrad"};
  return *all;
}

const std::vector<std::string>& ScheduleNames() {
  static const auto* const all = new std::vector<std::string>{"constant", "step", "exponential",
                                                              "cosine", "reduce_on_plateau"};
  return *all;
}

std::string Describe(const ModelSpec& spec) {
  std::string text = std::to_string(spec.input_size);
  for (const Layer& layer : spec.layers) {
    text += " → " + std::to_string(layer.units);
    if (layer.activation != Activation::kIdentity)
      text += " " + NameOf(Activations(), layer.activation);
    if (layer.dropout > 0) {
      char dropout[32];
      std::snprintf(dropout, sizeof(dropout), " (dropout %g)", layer.dropout);
      text += dropout;
    }
  }
  text += ", " + LossNames()[spec.loss.index()];
  text += ", " + OptimizerNames()[spec.optimizer.index()];
  const auto* sgd = std::get_if<Sgd>(&spec.optimizer);
  const double learning_rate =
      std::visit([](const auto& optimizer) { return optimizer.learning_rate; }, spec.optimizer);
  char numbers[96];
  std::snprintf(numbers, sizeof(numbers), "(learning_rate=%g", learning_rate);
  text += numbers;
  if (sgd != nullptr) {
    std::snprintf(numbers, sizeof(numbers), ", momentum=%g", sgd->momentum);
    text += numbers;
  }
  text += ")";
  const Schedule& schedule = spec.schedule;
  if (schedule.warmup_steps > 0) {
    text += ", warm-up of " + std::to_string(schedule.warmup_steps) + " steps";
  }
  if (schedule.kind.index() != 0)
    text += ", " + ScheduleNames()[schedule.kind.index()] + " schedule";
  if (spec.input_standardization.has_value()) text += ", standardised inputs";
  return text + (spec.data_type == DataType::kFloat64 ? ", float64" : ", float32");
}

}  // namespace backprop::cli
