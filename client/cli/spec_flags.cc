#include "client/cli/spec_flags.h"

#include <map>
#include <type_traits>
#include <utility>

#include "client/cli/spec_names.h"

namespace backprop::cli {
namespace {

template <class T>
std::vector<std::string> Names(const std::map<std::string, T>& all) {
  std::vector<std::string> names;
  for (const auto& [name, value] : all) names.push_back(name);
  return names;
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
  auto* inputs = command->add_option("--inputs", spec_.input_size, "Number of features");
  auto* layer_list =
      command
          ->add_option("--layers", layers_,
                       "Units of each layer, with an activation if not the default (relu; identity "
                       "for the last): 16:tanh,8,2. Known: " +
                           CLI::detail::join(Names(Activations()), ", "))
          ->delimiter(',')
          ->type_name("UNITS[:ACTIVATION],…");
  command->add_option("--spec", file_, "JSON file with the whole spec; - for standard input")
      ->type_name("FILE")
      ->excludes(inputs)
      ->excludes(layer_list);
  command
      ->add_option("--negative-slope", negative_slope_,
                   "Negative slope of leaky_relu layers; default 0.01")
      ->group("Model");
  command->add_option("--elu-alpha", alpha_, "Alpha of elu layers; default 1")->group("Model");
  command->add_option("--dropout", dropout_, "Dropout rate of hidden layers, in [0, 1); default 0")
      ->group("Model");
  command
      ->add_option("--initializer", initializer_,
                   "Initializer of the weights; default: pytorch_linear")
      ->check(CLI::IsMember(Names(Initializers())))
      ->capture_default_str()
      ->group("Model");
  AddFor(command, "--initializer", &initializer_, {"constant"}, "--initial-value", &initial_value_,
         "Value of every weight");
  command
      ->add_option("--bias-init", bias_initializer_,
                   "Initializer of the biases; default: pytorch_linear if the weights use it, "
                   "otherwise zeros")
      ->check(CLI::IsMember(Names(BiasInitializers())))
      ->capture_default_str()
      ->group("Model");
  AddFor(command, "--bias-init", &bias_initializer_, {"constant"}, "--initial-bias", &initial_bias_,
         "Value of every bias");
}

void SpecFlags::AddLossFlags(CLI::App* command) {
  command->add_option("--loss", loss_, "The loss function")
      ->check(CLI::IsMember(LossNames()))
      ->capture_default_str()
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--loss", &loss_, std::move(kinds), flag, value, description);
  };
  add({"softmax_cross_entropy"}, "--label-smoothing", &label_smoothing_,
      "Label smoothing, in [0, 1); default 0");
  add({"softmax_cross_entropy", "binary_cross_entropy"}, "--class-weights", &class_weights_,
      "Weight of each class, comma-separated; default 1");
  add({"binary_cross_entropy"}, "--pos-weight", &pos_weight_,
      "Weight of positive targets, one per output, comma-separated; default 1");
  add({"huber"}, "--delta", &delta_, "Largest |error| with a quadratic loss; default 1");
}

void SpecFlags::AddOptimizerFlags(CLI::App* command) {
  command->add_option("--optimizer", optimizer_, "The optimiser")
      ->check(CLI::IsMember(OptimizerNames()))
      ->capture_default_str()
      ->group("Model");
  command
      ->add_option("--learning-rate", learning_rate_,
                   "Learning rate; default 0.001, for rmsprop and adagrad 0.01")
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--optimizer", &optimizer_, std::move(kinds), flag, value, description);
  };
  add({"sgd", "rmsprop"}, "--momentum", &momentum_, "Momentum, in [0, 1); default 0");
  add({"sgd"}, "--nesterov", &nesterov_, "Use Nesterov momentum; requires --momentum");
  add({"adam", "adamw"}, "--beta1", &beta1_, "Decay rate of the mean of gradients; default 0.9");
  add({"adam", "adamw"}, "--beta2", &beta2_,
      "Decay rate of the mean of squared gradients; default 0.999");
  add({"adam", "adamw", "rmsprop", "adagrad"}, "--epsilon", &epsilon_,
      "Added to the denominator; default 1e-8, for adagrad 1e-10");
  add({"rmsprop"}, "--alpha", &rms_alpha_,
      "Decay rate of the mean of squared gradients; default 0.99");
  add({"rmsprop"}, "--centered", &centered_, "Divide by the standard deviation of the gradients");
  add({"adagrad"}, "--lr-decay", &lr_decay_, "Decay of the learning rate; default 0");
  add({"adagrad"}, "--initial-accumulator-value", &initial_accumulator_value_,
      "Initial value of the sum of squared gradients; default 0");
  command
      ->add_option("--weight-decay", weight_decay_,
                   "L2 penalty, decoupled with adamw; default 0, for adamw 0.01")
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
  command->add_option("--schedule", schedule_, "Schedule of the learning rate")
      ->check(CLI::IsMember(ScheduleNames()))
      ->capture_default_str()
      ->group("Model");
  const auto add = [&](std::vector<std::string> kinds, const std::string& flag, auto* value,
                       const std::string& description) {
    AddFor(command, "--schedule", &schedule_, std::move(kinds), flag, value, description);
  };
  add({"step"}, "--step-size", &step_size_, "Steps between reductions; required");
  add({"step", "exponential"}, "--gamma", &gamma_, "Factor of a reduction; default for step 0.1");
  add({"cosine"}, "--total-steps", &total_steps_, "Steps until the lowest rate; required");
  add({"cosine", "reduce_on_plateau"}, "--min-learning-rate", &min_learning_rate_,
      "The lowest rate; default 0");
  add({"reduce_on_plateau"}, "--factor", &factor_, "Factor of a reduction; default 0.1");
  add({"reduce_on_plateau"}, "--plateau-patience", &patience_,
      "Epochs without improvement before a reduction; default 10");
  add({"reduce_on_plateau"}, "--threshold", &threshold_,
      "Smallest relative improvement that counts; default 1e-4");
  add({"reduce_on_plateau"}, "--cooldown", &cooldown_,
      "Epochs ignored after a reduction; default 0");
  auto* warmup =
      command->add_option("--warmup-steps", warmup_steps_, "Steps of the warm-up; default 0");
  warmup->group("Model");
  command
      ->add_option("--warmup-start-factor", warmup_start_factor_,
                   "Fraction of the rate at the start of the warm-up; default 1/3")
      ->needs(warmup)
      ->group("Model");
}

void SpecFlags::AddTo(CLI::App* command) {
  command_ = command;
  AddLayerFlags(command);
  AddLossFlags(command);
  AddOptimizerFlags(command);
  AddScheduleFlags(command);
  auto* fit =
      command->add_flag("--standardize", standardize_,
                        "Standardise inputs with the mean and deviation of the first run's data");
  fit->group("Model");
  auto* mean = command->add_option("--input-mean", input_mean_,
                                   "Standardise inputs with these means, comma-separated");
  mean->delimiter(',')->excludes(fit)->group("Model");
  auto* deviation = command->add_option("--input-std", input_std_,
                                        "Standard deviations of the inputs, comma-separated");
  deviation->delimiter(',')->needs(mean)->group("Model");
  mean->needs(deviation);
  command->add_option("--seed", spec_.seed, "Seed of the model's random numbers")
      ->capture_default_str()
      ->group("Model");
  command->add_option("--dtype", data_type_, "Precision of the model")
      ->check(CLI::IsMember({"float32", "float64"}))
      ->capture_default_str()
      ->group("Model");
  command->add_option("--class-names", spec_.class_names, "Names of the classes, comma-separated")
      ->delimiter(',')
      ->group("Model");
  command
      ->add_option("--feature-names", spec_.feature_names, "Names of the features, comma-separated")
      ->delimiter(',')
      ->group("Model");
}

void SpecFlags::AddTrainingTo(CLI::App* command, const std::string& otherwise) {
  command_ = command;
  const size_t before = command->get_options().size();
  AddLossFlags(command);
  const size_t between = command->get_options().size();
  AddOptimizerFlags(command);
  AddScheduleFlags(command);
  const auto options = command->get_options();
  const auto at = [&](size_t i) { return options.begin() + static_cast<std::ptrdiff_t>(i); };
  loss_flags_.assign(at(before), at(between));
  optimizer_flags_.assign(at(between), options.end());
  for (const char* flag : {"--loss", "--optimizer"}) {
    command->get_option(flag)->default_str(otherwise);
  }
}

}  // namespace backprop::cli
