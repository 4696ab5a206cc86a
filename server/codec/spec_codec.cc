#include "server/codec/spec_codec.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/data_types.h"
#include "server/codec/enum_table.h"
#include "server/codec/loss_codec.h"
#include "server/codec/names.h"
#include "server/codec/number_rules.h"
#include "server/codec/optimizer_codec.h"
#include "server/engine/loss.h"

namespace backprop::codec {
namespace {

using engine::Activation;
using engine::DataType;
using engine::Initializer;
using engine::Loss;

constexpr EnumPair<v1::Activation, Activation> kActivations[] = {
    {v1::ACTIVATION_IDENTITY, Activation::kIdentity},
    {v1::ACTIVATION_RELU, Activation::kRelu},
    {v1::ACTIVATION_TANH, Activation::kTanh},
    {v1::ACTIVATION_SIGMOID, Activation::kSigmoid},
    {v1::ACTIVATION_LEAKY_RELU, Activation::kLeakyRelu},
    {v1::ACTIVATION_ELU, Activation::kElu},
    {v1::ACTIVATION_GELU, Activation::kGelu},
    {v1::ACTIVATION_SILU, Activation::kSilu},
    {v1::ACTIVATION_SOFTPLUS, Activation::kSoftplus}};
constexpr EnumPair<v1::Initializer, Initializer> kInitializers[] = {
    {v1::INITIALIZER_HE_NORMAL, Initializer::kHeNormal},
    {v1::INITIALIZER_HE_UNIFORM, Initializer::kHeUniform},
    {v1::INITIALIZER_XAVIER_NORMAL, Initializer::kXavierNormal},
    {v1::INITIALIZER_XAVIER_UNIFORM, Initializer::kXavierUniform},
    {v1::INITIALIZER_ZEROS, Initializer::kZeros},
    {v1::INITIALIZER_CONSTANT, Initializer::kConstant},
    {v1::INITIALIZER_PYTORCH_LINEAR, Initializer::kPytorchLinear}};
constexpr EnumPair<v1::Initializer, Initializer> kBiasInitializers[] = {
    {v1::INITIALIZER_ZEROS, Initializer::kZeros},
    {v1::INITIALIZER_CONSTANT, Initializer::kConstant},
    {v1::INITIALIZER_PYTORCH_LINEAR, Initializer::kPytorchLinear}};

// The default for the biases of a layer. PyTorch draws biases like weights. With any other
// initialiser of the weights, biases start at 0. A spec that was stored before biases had an
// initialiser means the same.
Initializer DefaultBiasInitializer(Initializer weights) {
  return weights == Initializer::kPytorchLinear ? Initializer::kPytorchLinear : Initializer::kZeros;
}

// `value` is required with CONSTANT and not allowed otherwise.
void CheckConstant(bool constant, bool given, double value, const std::string& field,
                   const NumberRules& check, base::Fields* fields) {
  if (given) {
    check.Finite(field, value);
    if (!constant) fields->Add(field, "is allowed only with CONSTANT");
  } else if (constant) {
    fields->Add(field, "is required with CONSTANT");
  }
}

// Decodes the numbers that are valid for some layers only.
void DecodeLayerOptions(const v1::Layer& layer, const std::string& field, bool last,
                        const NumberRules& check, base::Fields* fields, engine::LayerSpec* out) {
  if (layer.has_negative_slope()) {
    out->negative_slope = layer.negative_slope();
    check.Fraction(field + ".negative_slope", out->negative_slope);
    if (out->activation != Activation::kLeakyRelu) {
      fields->Add(field + ".negative_slope", "is allowed only with LEAKY_RELU");
    }
  }
  if (layer.has_alpha()) {
    out->alpha = layer.alpha();
    check.Positive(field + ".alpha", out->alpha);
    if (out->activation != Activation::kElu) {
      fields->Add(field + ".alpha", "is allowed only with ELU");
    }
  }
  if (layer.has_dropout()) {
    out->dropout = layer.dropout();
    check.Fraction(field + ".dropout", out->dropout);
    if (last && out->dropout != 0) {
      fields->Add(field + ".dropout",
                  absl::StrCat("must be 0 in the last layer, got ", out->dropout));
    }
  }
  out->initial_value = layer.initial_value();
  CheckConstant(out->initializer == Initializer::kConstant, layer.has_initial_value(),
                out->initial_value, field + ".initial_value", check, fields);
  out->initial_bias = layer.initial_bias();
  CheckConstant(out->bias_initializer == Initializer::kConstant, layer.has_initial_bias(),
                out->initial_bias, field + ".initial_bias", check, fields);
}

void DecodeLayers(const v1::ModelSpec& message, engine::NetworkSpec* spec, base::Fields* fields) {
  if (message.layers().empty()) fields->Add("spec.layers", "must have at least one layer, got 0");
  const NumberRules check(spec->data_type, fields);
  for (int i = 0; i < message.layers_size(); ++i) {
    const v1::Layer& layer = message.layers(i);
    const std::string field = absl::StrCat("spec.layers[", i, "]");
    const bool last = i + 1 == message.layers_size();
    engine::LayerSpec out;
    out.units = layer.units();
    check.AtLeast(field + ".units", layer.units(), 1);
    out.activation = DecodeEnum(kActivations, layer.activation(),
                                last ? Activation::kIdentity : Activation::kRelu,
                                field + ".activation", "a known activation", fields);
    out.initializer = DecodeEnum(kInitializers, layer.initializer(), Initializer::kPytorchLinear,
                                 field + ".initializer", "a known initializer", fields);
    out.bias_initializer = DecodeEnum(
        kBiasInitializers, layer.bias_initializer(), DefaultBiasInitializer(out.initializer),
        field + ".bias_initializer", "ZEROS, CONSTANT or PYTORCH_LINEAR", fields);
    DecodeLayerOptions(layer, field, last, check, fields, &out);
    spec->layers.push_back(out);
  }
}

}  // namespace

engine::Standardization DecodeStandardization(const v1::InputStandardization& message,
                                              const std::string& field, int64_t features,
                                              base::Fields* fields) {
  // Both are used in float64, regardless of the model's precision.
  const NumberRules check(DataType::kFloat64, fields);
  engine::Standardization out;
  out.mean = DecodeList(message.mean(), field + ".mean", features, "feature", fields,
                        [&](const std::string& at, double value) { check.Finite(at, value); });
  out.std = DecodeList(message.std(), field + ".std", features, "feature", fields,
                       [&](const std::string& at, double value) { check.Positive(at, value); });
  if (message.mean().empty() != message.std().empty()) {
    fields->Add(field, absl::StrCat("expected both mean and std or neither, got only ",
                                    message.std().empty() ? "mean" : "std"));
  }
  return out;
}

void EncodeStandardization(const engine::Standardization& standardization,
                           v1::InputStandardization* message) {
  message->mutable_mean()->Add(standardization.mean.begin(), standardization.mean.end());
  message->mutable_std()->Add(standardization.std.begin(), standardization.std.end());
}

absl::StatusOr<engine::NetworkSpec> DecodeSpec(const v1::ModelSpec& message,
                                               const base::Limits& limits) {
  if (message.layers_size() > limits.max_layers) {
    return base::LimitError("spec.layers",
                            absl::StrCat("has ", message.layers_size(),
                                         " layers, more than the limit of ", limits.max_layers));
  }
  base::Fields fields;
  engine::NetworkSpec spec;
  spec.input_size = message.input_size();
  spec.seed = message.seed();
  if (message.input_size() < 1) {
    fields.Add("spec.input_size", absl::StrCat("must be at least 1, got ", message.input_size()));
  }
  spec.data_type = DecodeEnum(kDataTypes, message.data_type(), DataType::kFloat32, "spec.data_type",
                              "FLOAT32 or FLOAT64", &fields);
  DecodeLayers(message, &spec, &fields);
  DecodeLoss(message, &spec, &fields);
  spec.optimizer = DecodeOptimizer(message, spec.data_type, &fields);
  if (message.has_input_standardization()) {
    const auto standardization = DecodeStandardization(
        message.input_standardization(), "spec.input_standardization", spec.input_size, &fields);
    spec.standardize =
        standardization.mean.empty() ? engine::Standardize::kFitted : engine::Standardize::kGiven;
    spec.input_mean = standardization.mean;
    spec.input_std = standardization.std;
  }
  if (fields.ok()) {
    const int64_t outputs = spec.layers.back().units;
    const bool binary = spec.loss.kind == Loss::kBinaryCrossEntropy && outputs == 1;
    CheckNames(message.class_names(), "spec.class_names", binary ? 2 : outputs, &fields);
    if (!engine::Classifies(spec.loss.kind) && !message.class_names().empty()) {
      fields.Add("spec.class_names", absl::StrCat("must be empty for a regression model, got ",
                                                  message.class_names_size(), " names"));
    }
    CheckNames(message.feature_names(), "spec.feature_names", spec.input_size, &fields);
  }
  if (!fields.ok()) return fields.status();
  if (engine::CountParameters(spec, limits.max_parameters) < 0) {
    return base::LimitError("spec.layers",
                            absl::StrCat("the model would have more parameters than the limit of ",
                                         limits.max_parameters));
  }
  return spec;
}

void EncodeSpec(const engine::NetworkSpec& spec, v1::ModelSpec* message) {
  message->set_input_size(static_cast<int32_t>(spec.input_size));
  for (const engine::LayerSpec& layer : spec.layers) {
    v1::Layer* out = message->add_layers();
    out->set_units(static_cast<int32_t>(layer.units));
    out->set_activation(EncodeEnum(kActivations, layer.activation));
    out->set_initializer(EncodeEnum(kInitializers, layer.initializer));
    if (layer.activation == Activation::kLeakyRelu) out->set_negative_slope(layer.negative_slope);
    if (layer.activation == Activation::kElu) out->set_alpha(layer.alpha);
    if (layer.dropout > 0) out->set_dropout(layer.dropout);
    if (layer.initializer == Initializer::kConstant) out->set_initial_value(layer.initial_value);
    // Without drawn biases, the message is the same as before biases had an initialiser.
    if (layer.bias_initializer != Initializer::kZeros ||
        layer.initializer == Initializer::kPytorchLinear) {
      out->set_bias_initializer(EncodeEnum(kBiasInitializers, layer.bias_initializer));
    }
    if (layer.bias_initializer == Initializer::kConstant) {
      out->set_initial_bias(layer.initial_bias);
    }
  }
  EncodeLoss(spec.loss, message->mutable_loss());
  EncodeOptimizer(spec.optimizer, message->mutable_optimizer());
  message->set_seed(spec.seed);
  message->set_data_type(EncodeEnum(kDataTypes, spec.data_type));
  if (spec.standardize == engine::Standardize::kNo) return;
  EncodeStandardization({spec.input_mean, spec.input_std},
                        message->mutable_input_standardization());
}

std::string EncodeSpecRecord(const engine::NetworkSpec& spec,
                             const std::vector<std::string>& class_names,
                             const std::vector<std::string>& feature_names) {
  v1::ModelSpec message;
  EncodeSpec(spec, &message);
  for (const std::string& name : class_names) message.add_class_names(name);
  for (const std::string& name : feature_names) message.add_feature_names(name);
  return message.SerializeAsString();
}

absl::StatusOr<DecodedSpec> DecodeSpecRecord(absl::string_view record) {
  v1::ModelSpec message;
  if (!message.ParseFromArray(record.data(), static_cast<int>(record.size()))) {
    return absl::DataLossError("cannot be parsed");
  }
  base::Limits no_limits;
  no_limits.max_layers = std::numeric_limits<int32_t>::max();
  no_limits.max_parameters = int64_t{1} << 40;
  auto spec = DecodeSpec(message, no_limits);
  if (!spec.ok()) return spec.status();
  return DecodedSpec{*std::move(spec),
                     {message.class_names().begin(), message.class_names().end()},
                     {message.feature_names().begin(), message.feature_names().end()}};
}

}  // namespace backprop::codec
