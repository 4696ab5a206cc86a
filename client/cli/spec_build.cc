// Builds the spec from its flags.
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <charconv>

#include "client/backprop/convert.h"
#include "client/cli/spec_flags.h"
#include "client/cli/spec_names.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

std::string Known() {
  std::string names;
  for (const auto& [name, activation] : Activations()) names += (names.empty() ? "" : ", ") + name;
  return names;
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
      throw CLI::ValidationError("--layers",
                                 "unknown activation in " + text + "; known are " + Known());
    }
    layer.activation = it->second;
  }
  return layer;
}

template <class T>
void SetIf(const std::optional<T>& given, T* value) {
  if (given.has_value()) *value = *given;
}

bool AnyGiven(const std::vector<const CLI::Option*>& options) {
  return std::any_of(options.begin(), options.end(),
                     [](const CLI::Option* option) { return option->count() > 0; });
}

}  // namespace

void SpecFlags::CheckConditions() const {
  for (const Condition& condition : conditions_) {
    const auto& kinds = condition.kinds;
    const bool fits = std::count(kinds.begin(), kinds.end(), *condition.selector_value) > 0;
    if (condition.option->count() == 0 || fits) continue;
    throw CLI::ValidationError(condition.option->get_name(),
                               "requires " + condition.selector + " " +
                                   CLI::detail::join(kinds, ", ") + ", got " +
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
    layer.bias_initializer = BiasInitializers().at(bias_initializer_);
    layer.initial_bias = initial_bias_;
    leaky = leaky || layer.activation == Activation::kLeakyRelu;
    elu = elu || layer.activation == Activation::kElu;
    if (layer.activation == Activation::kLeakyRelu) layer.negative_slope = negative_slope_;
    if (layer.activation == Activation::kElu) layer.alpha = alpha_;
    if (built.size() + 1 < layers_.size()) layer.dropout = dropout_.value_or(0);
    built.push_back(layer);
  }
  const auto needs = [](bool given, bool there, const char* flag, const char* what) {
    if (given && !there) throw CLI::ValidationError(flag, std::string("requires ") + what);
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

Clipping SpecFlags::BuildClipping() const {
  Clipping clipping;  // one variable, because GCC 12 warns of several when it inlines this
  if (clip_norm_.has_value()) {
    clipping.emplace<ClipNorm>(ClipNorm{*clip_norm_});
  } else if (clip_value_.has_value()) {
    clipping.emplace<ClipValue>(ClipValue{*clip_value_});
  }
  return clipping;
}

ModelSpec SpecFlags::Build() const {
  if (!file_.empty()) {
    for (const CLI::Option* option : command_->get_options()) {
      if (option->get_group() == "Model" && option->count() > 0) {
        throw CLI::ValidationError(option->get_name(), "cannot be combined with --spec");
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
  built.clipping = BuildClipping();
  if (standardize_ || !input_mean_.empty()) {
    built.input_standardization = InputStandardization{input_mean_, input_std_};
  }
  return built;
}

std::optional<Loss> SpecFlags::GivenLoss() const {
  if (!AnyGiven(loss_flags_)) return std::nullopt;
  CheckConditions();
  return BuildLoss();
}

std::optional<OptimizerSettings> SpecFlags::GivenOptimizer() const {
  if (!AnyGiven(optimizer_flags_)) return std::nullopt;
  CheckConditions();
  return OptimizerSettings{BuildOptimizer(), BuildSchedule(), l1_.value_or(0), BuildClipping()};
}

}  // namespace backprop::cli
