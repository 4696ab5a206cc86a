#include "client/cli/spec_flags.h"

#include <google/protobuf/util/json_util.h>

#include <charconv>
#include <map>

#include "client/backprop/convert.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

const std::map<std::string, Activation>& Activations() {
  static const auto* const all =
      new std::map<std::string, Activation>{{"identity", Activation::kIdentity},
                                            {"relu", Activation::kRelu},
                                            {"tanh", Activation::kTanh},
                                            {"sigmoid", Activation::kSigmoid}};
  return *all;
}
const std::map<std::string, Initializer>& Initializers() {
  static const auto* const all =
      new std::map<std::string, Initializer>{{"default", Initializer::kDefault},
                                             {"he_normal", Initializer::kHeNormal},
                                             {"he_uniform", Initializer::kHeUniform},
                                             {"xavier_normal", Initializer::kXavierNormal},
                                             {"xavier_uniform", Initializer::kXavierUniform},
                                             {"zeros", Initializer::kZeros}};
  return *all;
}
const std::map<std::string, Loss>& Losses() {
  static const auto* const all =
      new std::map<std::string, Loss>{{"softmax_cross_entropy", Loss::kSoftmaxCrossEntropy},
                                      {"binary_cross_entropy", Loss::kBinaryCrossEntropy},
                                      {"mean_squared_error", Loss::kMeanSquaredError}};
  return *all;
}

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

void SpecFlags::AddTo(CLI::App* command) {
  auto* inputs = command->add_option("--inputs", spec.input_size, "Features of a row");
  auto* layer_list = command
                         ->add_option("--layers", layers,
                                      "Units of each layer, with an activation if not the default "
                                      "(relu; identity for the last): 16:tanh,8,2")
                         ->delimiter(',')
                         ->type_name("UNITS[:ACTIVATION],…");
  auto* json = command
                   ->add_option("--spec", file,
                                "The whole spec as a JSON file instead; - for standard input")
                   ->type_name("FILE");
  json->excludes(inputs)->excludes(layer_list);
  const std::string group = "Model";
  command->add_option("--loss", loss, "What training makes small")
      ->check(CLI::IsMember(Names(Losses())))
      ->capture_default_str()
      ->group(group);
  command->add_option("--optimizer", optimizer, "How")
      ->check(CLI::IsMember({"sgd", "adam"}))
      ->capture_default_str()
      ->group(group);
  command->add_option("--learning-rate", learning_rate, "Step size")
      ->capture_default_str()
      ->group(group);
  command->add_option("--momentum", momentum, "Of SGD")->capture_default_str()->group(group);
  command->add_option("--beta1", adam.beta1, "Of Adam")->capture_default_str()->group(group);
  command->add_option("--beta2", adam.beta2, "Of Adam")->capture_default_str()->group(group);
  command->add_option("--epsilon", adam.epsilon, "Of Adam")->capture_default_str()->group(group);
  command->add_option("--seed", spec.seed, "Of initial weights and shuffles")
      ->capture_default_str()
      ->group(group);
  command->add_option("--dtype", data_type, "Precision")
      ->check(CLI::IsMember({"float32", "float64"}))
      ->capture_default_str()
      ->group(group);
  command->add_option("--initializer", initializer, "Of the weights")
      ->check(CLI::IsMember(Names(Initializers())))
      ->capture_default_str()
      ->group(group);
  command->add_option("--class-names", spec.class_names, "Names of the classes")
      ->delimiter(',')
      ->group(group);
  command->add_option("--feature-names", spec.feature_names, "Names of the features")
      ->delimiter(',')
      ->group(group);
}

ModelSpec SpecFlags::Build() const {
  if (!file.empty()) {
    v1::ModelSpec message;
    const auto status = google::protobuf::util::JsonStringToMessage(ReadFile(file), &message);
    if (!status.ok()) throw DataError{file + ": " + std::string(status.message())};
    return FromMessage(message);
  }
  if (layers.empty()) throw CLI::RequiredError("--layers or --spec");
  ModelSpec built = spec;
  for (const std::string& text : layers) {
    built.layers.push_back(ParseLayer(text));
    built.layers.back().initializer = Initializers().at(initializer);
  }
  built.loss = Losses().at(loss);
  built.data_type = data_type == "float64" ? DataType::kFloat64 : DataType::kFloat32;
  if (optimizer == "sgd") {
    built.optimizer = Sgd{learning_rate, momentum};
  } else {
    Adam filled = adam;
    filled.learning_rate = learning_rate;
    built.optimizer = filled;
  }
  return built;
}

std::string Describe(const ModelSpec& spec) {
  std::string text = std::to_string(spec.input_size);
  for (const Layer& layer : spec.layers) {
    text += " → " + std::to_string(layer.units);
    if (layer.activation != Activation::kIdentity)
      text += " " + NameOf(Activations(), layer.activation);
  }
  text += ", " + NameOf(Losses(), spec.loss);
  char optimizer[96];
  if (const auto* sgd = std::get_if<Sgd>(&spec.optimizer)) {
    std::snprintf(optimizer, sizeof(optimizer), ", sgd(learning_rate=%g, momentum=%g)",
                  sgd->learning_rate, sgd->momentum);
  } else {
    std::snprintf(optimizer, sizeof(optimizer), ", adam(learning_rate=%g)",
                  std::get<Adam>(spec.optimizer).learning_rate);
  }
  text += optimizer;
  return text + (spec.data_type == DataType::kFloat64 ? ", float64" : ", float32");
}

}  // namespace backprop::cli
