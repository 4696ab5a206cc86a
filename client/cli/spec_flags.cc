#include "client/cli/spec_flags.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <type_traits>
#include <utility>
#include <variant>

#include "client/backprop/convert.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

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
                                             {"constant", Initializer::kConstant}};
  return *all;
}
// The names of the kinds, in the order of the client's variants.
const std::vector<std::string> kLosses = {"softmax_cross_entropy", "binary_cross_entropy",
                                          "mean_squared_error", "mean_absolute_error", "huber"};
const std::vector<std::string> kOptimizers = {"sgd", "adam", "adamw", "rmsprop", "adagrad"};
const std::vector<std::string> kSchedules = {"constant", "step", "exponential", "cosine",
                                             "reduce_on_plateau"};

template <class T>
std::vector<std::string> Names(const std::map<std::string, T>& all) {
  std::vector<std::string> names;
  for (const auto& [name, value] : all) names.push_back(name);
  return names;
}

template <class T>
std::string NameOf(const std::map<std::string, T>& all, T value) {
  for (const auto& [name, other] : all) {
    if (other == value) return name;
  }
  return "default";
}

// "8" or "8:relu"
Layer ParseLayer(const std::string& text) {
  Layer layer;
  const size_t colon = text.find(':');
  const std::string units = text.substr(0, colon);
  const auto [end, error] = std::from_chars(units.data(), units.data() + units.size(), layer.units);
  if (error != std::errc() || end != units.data() + units.size()) {
    throw CLI::ValidationError("--layers", "expected units or units:activation, got " + text);
  }
  if (colon != std::string::npos) {
    const auto it = Activations().find(text.substr(colon + 1));
    if (it == Activations().end()) {
      throw CLI::ValidationError("--layers", "unknown activation in " + text + "; known are " +
                                                 CLI::detail::join(Names(Activations()), ", "));
    }
    layer.activation = it->second;
  }
  return layer;
}

}  // namespace

template <class T>
void SpecFlags::AddFor(CLI::App* command, const std::string& selector,
                       const std::string* selector_value, std::vector<std::string> kinds,
                       const std::string& flag, T* value, const std::string& description) {
  const std::string of = "; with " + selector + " " + CLI::detail::join(kinds, ", ");
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>) {
    option = command->add_flag(flag, *value, description + of);
  } else {
    option = command->add_option(flag, *value, description + of);
  }
  option->group("Model");
  if constexpr (std::is_same_v<T, std::vector<double>>) option->delimiter(',');
  conditions_.push_back({option, selector_value, selector, std::move(kinds)});
}

void SpecFlags::AddLayerFlags(CLI::App* command) {
  auto* inputs = command->add_option("--inputs", spec_.input_size, "Features of a row");
  auto* layer_list =
      command
          ->add_option("--layers", layers_,
                       "Units of each layer, with an activation if not the default (relu; identity "
                       "for the last): 16:tanh,8,2. Known: " +
                           CLI::detail::join(Names(Activations()), ", "))
          ->delimiter(',')
          ->type_name("UNITS[:ACTIVATION],…");
  command
      ->add_option("--spec", file_, "The whole spec as a JSON file instead; - for standard input")
      ->type_name("FILE")
      ->excludes(inputs)
      ->excludes(layer_list);
  command->add_option("--negative-slope", negative_slope_, "Of leaky_relu layers; default 0.01")
      ->group("Model");
  command->add_option("--elu-alpha", alpha_, "Of elu layers; default 1")->group("Model");
  command->add_option("--dropout", dropout_, "Of every hidden layer, in [0, 1); default 0")
      ->group("Model");
  command->add_option("--initializer", initializer_, "Of the weights")
      ->check(CLI::IsMember(Names(Initializers())))
      ->capture_default_str()
      ->group("Model");
  AddFor(command, "--initializer", &initializer_, {"constant"}, "--initial-value", &initial_value_,
         "Every weight");
}

void SpecFlags::AddLossFlags(CLI::App* command) {
  command->add_option("--loss", loss_, "What training makes small")
      ->check(CLI::IsMember(kLosses))
      ->capture_default_str()
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--loss", &loss_, std::move(kinds), flag, value, description);
  };
  add({"softmax_cross_entropy"}, "--label-smoothing", &label_smoothing_, "In [0, 1); default 0");
  add({"softmax_cross_entropy", "binary_cross_entropy"}, "--class-weights", &class_weights_,
      "What each class weighs, with commas; default 1");
  add({"binary_cross_entropy"}, "--pos-weight", &pos_weight_,
      "What a yes weighs, one per output, with commas; default 1");
  add({"huber"}, "--delta", &delta_, "Where the square ends; default 1");
}

void SpecFlags::AddOptimizerFlags(CLI::App* command) {
  command->add_option("--optimizer", optimizer_, "How")
      ->check(CLI::IsMember(kOptimizers))
      ->capture_default_str()
      ->group("Model");
  command
      ->add_option("--learning-rate", learning_rate_,
                   "Step size; default 0.001, rmsprop and adagrad 0.01")
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--optimizer", &optimizer_, std::move(kinds), flag, value, description);
  };
  add({"sgd", "rmsprop"}, "--momentum", &momentum_, "In [0, 1); default 0");
  add({"sgd"}, "--nesterov", &nesterov_, "Look ahead; needs --momentum");
  add({"adam", "adamw"}, "--beta1", &beta1_, "Decay of the mean of gradients; default 0.9");
  add({"adam", "adamw"}, "--beta2", &beta2_, "Decay of the mean of their squares; default 0.999");
  add({"adam", "adamw", "rmsprop", "adagrad"}, "--epsilon", &epsilon_,
      "Added to the denominator; default 1e-8, adagrad 1e-10");
  add({"rmsprop"}, "--alpha", &rms_alpha_, "Decay of the mean of squares; default 0.99");
  add({"rmsprop"}, "--centered", &centered_, "Divide by the deviation");
  add({"adagrad"}, "--lr-decay", &lr_decay_, "Decay of the step size; default 0");
  add({"adagrad"}, "--initial-accumulator-value", &initial_accumulator_value_,
      "What the sum of squares starts from; default 0");
  command
      ->add_option("--weight-decay", weight_decay_,
                   "L2 penalty; with adamw decoupled, default 0.01; else default 0")
      ->group("Model");
  command->add_option("--l1", l1_, "L1 penalty; default 0")->group("Model");
  auto* clip_norm =
      command->add_option("--clip-norm", clip_norm_, "Largest norm of a gradient; default: none");
  clip_norm->group("Model");
  command->add_option("--clip-value", clip_value_, "Largest entry of a gradient; default: none")
      ->excludes(clip_norm)
      ->group("Model");
}

void SpecFlags::AddScheduleFlags(CLI::App* command) {
  command->add_option("--schedule", schedule_, "How the learning rate goes with the steps")
      ->check(CLI::IsMember(kSchedules))
      ->capture_default_str()
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--schedule", &schedule_, std::move(kinds), flag, value, description);
  };
  add({"step"}, "--step-size", &step_size_, "Steps between two falls; required");
  add({"step", "exponential"}, "--gamma", &gamma_, "Factor of a fall; step's default 0.1");
  add({"cosine"}, "--total-steps", &total_steps_, "Steps to the lowest rate; required");
  add({"cosine", "reduce_on_plateau"}, "--min-learning-rate", &min_learning_rate_,
      "The lowest rate; default 0");
  add({"reduce_on_plateau"}, "--factor", &factor_, "Factor of a fall; default 0.1");
  add({"reduce_on_plateau"}, "--plateau-patience", &patience_,
      "Epochs without improvement that are borne; default 10");
  add({"reduce_on_plateau"}, "--threshold", &threshold_,
      "Relative improvement that counts; default 1e-4");
  add({"reduce_on_plateau"}, "--cooldown", &cooldown_, "Epochs after a fall that do not count");
  auto* warmup = command->add_option("--warmup-steps", warmup_steps_,
                                     "Steps in which the rate grows first; default 0");
  warmup->group("Model");
  command
      ->add_option("--warmup-start-factor", warmup_start_factor_,
                   "Share of the rate that a warm-up starts from; default 1/3")
      ->needs(warmup)
      ->group("Model");
}

void SpecFlags::AddTo(CLI::App* command) {
  command_ = command;
  AddLayerFlags(command);
  AddLossFlags(command);
  AddOptimizerFlags(command);
  AddScheduleFlags(command);
  auto* fit = command->add_flag("--standardize", standardize_,
                                "Standardise inputs by the data of the first run");
  fit->group("Model");
  auto* mean =
      command->add_option("--input-mean", input_mean_, "Standardise inputs by these, with commas");
  mean->delimiter(',')->excludes(fit)->group("Model");
  auto* deviation = command->add_option("--input-std", input_std_, "The standard deviations");
  deviation->delimiter(',')->needs(mean)->group("Model");
  mean->needs(deviation);
  command->add_option("--seed", spec_.seed, "Of everything random about the model")
      ->capture_default_str()
      ->group("Model");
  command->add_option("--dtype", data_type_, "Precision")
      ->check(CLI::IsMember({"float32", "float64"}))
      ->capture_default_str()
      ->group("Model");
  command->add_option("--class-names", spec_.class_names, "Names of the classes")
      ->delimiter(',')
      ->group("Model");
  command->add_option("--feature-names", spec_.feature_names, "Names of the features")
      ->delimiter(',')
      ->group("Model");
}

void SpecFlags::CheckConditions() const {
  for (const Condition& condition : conditions_) {
    const auto& kinds = condition.kinds;
    const bool fits = std::count(kinds.begin(), kinds.end(), *condition.selector_value) > 0;
    if (condition.option->count() == 0 || fits) continue;
    throw CLI::ValidationError(condition.option->get_name(),
                               "goes with " + condition.selector + " " +
                                   CLI::detail::join(kinds, ", ") + " alone, got " +
                                   *condition.selector_value);
  }
}

std::vector<Layer> SpecFlags::BuildLayers() const {
  std::vector<Layer> built;
  bool leaky = false;
  bool elu = false;
  for (const std::string& text : layers_) {
    Layer layer = ParseLayer(text);
    layer.initializer = Initializers().at(initializer_);
    layer.initial_value = initial_value_;
    leaky = leaky || layer.activation == Activation::kLeakyRelu;
    elu = elu || layer.activation == Activation::kElu;
    if (layer.activation == Activation::kLeakyRelu) layer.negative_slope = negative_slope_;
    if (layer.activation == Activation::kElu) layer.alpha = alpha_;
    if (built.size() + 1 < layers_.size()) layer.dropout = dropout_.value_or(0);
    built.push_back(layer);
  }
  const auto needs = [](bool given, bool there, const char* flag, const char* what) {
    if (given && !there) throw CLI::ValidationError(flag, std::string("needs ") + what);
  };
  needs(negative_slope_.has_value(), leaky, "--negative-slope", "a leaky_relu layer");
  needs(alpha_.has_value(), elu, "--elu-alpha", "an elu layer");
  needs(dropout_.has_value(), built.size() > 1, "--dropout", "a hidden layer");
  return built;
}

Loss SpecFlags::BuildLoss() const {
  if (loss_ == "binary_cross_entropy") return BinaryCrossEntropy{pos_weight_, class_weights_};
  if (loss_ == "mean_squared_error") return MeanSquaredError{};
  if (loss_ == "mean_absolute_error") return MeanAbsoluteError{};
  if (loss_ == "huber") return Huber{delta_.value_or(Huber().delta)};
  return SoftmaxCrossEntropy{label_smoothing_.value_or(0), class_weights_};
}

namespace {

template <class T>
void SetIf(const std::optional<T>& given, T* value) {
  if (given.has_value()) *value = *given;
}

}  // namespace

Optimizer SpecFlags::BuildOptimizer() const {
  const auto adam = [&](auto built) {
    SetIf(learning_rate_, &built.learning_rate);
    SetIf(beta1_, &built.beta1);
    SetIf(beta2_, &built.beta2);
    SetIf(epsilon_, &built.epsilon);
    SetIf(weight_decay_, &built.weight_decay);
    return built;
  };
  if (optimizer_ == "adam") return adam(Adam());
  if (optimizer_ == "adamw") return adam(AdamW());
  if (optimizer_ == "rmsprop") {
    RmsProp built;
    SetIf(learning_rate_, &built.learning_rate);
    SetIf(rms_alpha_, &built.alpha);
    SetIf(epsilon_, &built.epsilon);
    SetIf(momentum_, &built.momentum);
    SetIf(weight_decay_, &built.weight_decay);
    built.centered = centered_;
    return built;
  }
  if (optimizer_ == "adagrad") {
    Adagrad built;
    SetIf(learning_rate_, &built.learning_rate);
    SetIf(lr_decay_, &built.lr_decay);
    SetIf(epsilon_, &built.epsilon);
    SetIf(initial_accumulator_value_, &built.initial_accumulator_value);
    SetIf(weight_decay_, &built.weight_decay);
    return built;
  }
  Sgd built;
  SetIf(learning_rate_, &built.learning_rate);
  SetIf(momentum_, &built.momentum);
  SetIf(weight_decay_, &built.weight_decay);
  built.nesterov = nesterov_;
  return built;
}

Schedule SpecFlags::BuildSchedule() const {
  Schedule schedule;
  SetIf(warmup_steps_, &schedule.warmup_steps);
  schedule.warmup_start_factor = warmup_start_factor_;
  if (schedule_ == "step") {
    if (!step_size_.has_value()) throw CLI::RequiredError("--step-size");
    schedule.kind = StepSchedule{*step_size_, gamma_.value_or(StepSchedule().gamma)};
  } else if (schedule_ == "exponential") {
    if (!gamma_.has_value()) throw CLI::RequiredError("--gamma");
    schedule.kind = ExponentialSchedule{*gamma_};
  } else if (schedule_ == "cosine") {
    if (!total_steps_.has_value()) throw CLI::RequiredError("--total-steps");
    schedule.kind = CosineSchedule{*total_steps_, min_learning_rate_.value_or(0)};
  } else if (schedule_ == "reduce_on_plateau") {
    ReduceOnPlateauSchedule plateau;
    SetIf(factor_, &plateau.factor);
    SetIf(patience_, &plateau.patience);
    SetIf(threshold_, &plateau.threshold);
    SetIf(cooldown_, &plateau.cooldown);
    SetIf(min_learning_rate_, &plateau.min_learning_rate);
    schedule.kind = plateau;
  }
  return schedule;
}

ModelSpec SpecFlags::Build() const {
  if (!file_.empty()) {
    for (const CLI::Option* option : command_->get_options()) {
      if (option->get_group() == "Model" && option->count() > 0) {
        throw CLI::ValidationError(option->get_name(),
                                   "is not for --spec, which has the whole spec");
      }
    }
    v1::ModelSpec message;
    const auto status = google::protobuf::util::JsonStringToMessage(ReadFile(file_), &message);
    if (!status.ok()) throw DataError{file_ + ": " + std::string(status.message())};
    return FromMessage(message);
  }
  if (layers_.empty()) throw CLI::RequiredError("--layers or --spec");
  CheckConditions();
  ModelSpec built = spec_;
  built.layers = BuildLayers();
  built.loss = BuildLoss();
  built.optimizer = BuildOptimizer();
  built.schedule = BuildSchedule();
  built.data_type = data_type_ == "float64" ? DataType::kFloat64 : DataType::kFloat32;
  SetIf(l1_, &built.l1);
  if (clip_norm_.has_value()) built.clipping = ClipNorm{*clip_norm_};
  if (clip_value_.has_value()) built.clipping = ClipValue{*clip_value_};
  if (standardize_ || !input_mean_.empty()) {
    built.input_standardization = InputStandardization{input_mean_, input_std_};
  }
  return built;
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
  text += ", " + kLosses[spec.loss.index()];
  text += ", " + kOptimizers[spec.optimizer.index()];
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
  if (schedule.kind.index() != 0) text += ", " + kSchedules[schedule.kind.index()] + " schedule";
  if (spec.input_standardization.has_value()) text += ", standardised inputs";
  return text + (spec.data_type == DataType::kFloat64 ? ", float64" : ", float32");
}

}  // namespace backprop::cli
