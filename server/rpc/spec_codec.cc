#include "server/rpc/spec_codec.h"

#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/engine/network.h"
#include "server/rpc/fields.h"

namespace backprop::rpc {
namespace {

using engine::Activation;
using engine::DataType;
using engine::Initializer;
using engine::Loss;
using engine::OptimizerKind;

constexpr size_t kMaxNameBytes = 255;

// Every enum of the contract and of the engine, side by side.
template <class Message, class Ours>
struct Pair {
  Message message;
  Ours ours;
};
constexpr Pair<v1::Activation, Activation> kActivations[] = {
    {v1::ACTIVATION_IDENTITY, Activation::kIdentity},
    {v1::ACTIVATION_RELU, Activation::kRelu},
    {v1::ACTIVATION_TANH, Activation::kTanh},
    {v1::ACTIVATION_SIGMOID, Activation::kSigmoid}};
constexpr Pair<v1::Initializer, Initializer> kInitializers[] = {
    {v1::INITIALIZER_HE_NORMAL, Initializer::kHeNormal},
    {v1::INITIALIZER_HE_UNIFORM, Initializer::kHeUniform},
    {v1::INITIALIZER_XAVIER_NORMAL, Initializer::kXavierNormal},
    {v1::INITIALIZER_XAVIER_UNIFORM, Initializer::kXavierUniform},
    {v1::INITIALIZER_ZEROS, Initializer::kZeros}};
constexpr Pair<v1::DataType, DataType> kDataTypes[] = {{v1::DATA_TYPE_FLOAT32, DataType::kFloat32},
                                                       {v1::DATA_TYPE_FLOAT64, DataType::kFloat64}};

// `fallback` for the zero value; a violation for one that is not in the table.
template <class Message, class Ours, size_t kSize>
Ours Decode(const Pair<Message, Ours> (&table)[kSize], Message value, Ours fallback,
            const std::string& field, absl::string_view expected, Fields* fields) {
  if (value == Message(0)) return fallback;
  for (const auto& pair : table) {
    if (pair.message == value) return pair.ours;
  }
  fields->Add(field, absl::StrCat("expected ", expected, ", got ", static_cast<int>(value)));
  return fallback;
}

template <class Message, class Ours, size_t kSize>
Message Encode(const Pair<Message, Ours> (&table)[kSize], Ours value) {
  for (const auto& pair : table) {
    if (pair.ours == value) return pair.message;
  }
  return Message(0);
}

Initializer DefaultInitializer(Activation activation) {
  const bool saturates = activation == Activation::kTanh || activation == Activation::kSigmoid;
  return saturates ? Initializer::kXavierUniform : Initializer::kHeNormal;
}

void DecodeLayers(const v1::ModelSpec& message, engine::NetworkSpec* spec, Fields* fields) {
  if (message.layers().empty()) fields->Add("spec.layers", "must have at least one layer, got 0");
  for (int i = 0; i < message.layers_size(); ++i) {
    const v1::Layer& layer = message.layers(i);
    const std::string field = absl::StrCat("spec.layers[", i, "]");
    const bool last = i + 1 == message.layers_size();
    engine::LayerSpec out;
    out.units = layer.units();
    if (layer.units() < 1) {
      fields->Add(field + ".units", absl::StrCat("must be at least 1, got ", layer.units()));
    }
    out.activation =
        Decode(kActivations, layer.activation(), last ? Activation::kIdentity : Activation::kRelu,
               field + ".activation", "a known activation", fields);
    out.initializer = Decode(kInitializers, layer.initializer(), DefaultInitializer(out.activation),
                             field + ".initializer", "a known initializer", fields);
    spec->layers.push_back(out);
  }
}

void DecodeLoss(const v1::ModelSpec& message, engine::NetworkSpec* spec, Fields* fields) {
  switch (message.loss().kind_case()) {
    case v1::Loss::kBinaryCrossEntropy:
      spec->loss = Loss::kBinaryCrossEntropy;
      break;
    case v1::Loss::kMeanSquaredError:
      spec->loss = Loss::kMeanSquaredError;
      return;
    case v1::Loss::kSoftmaxCrossEntropy:
      spec->loss = Loss::kSoftmaxCrossEntropy;
      break;
    case v1::Loss::KIND_NOT_SET:
      if (message.has_loss()) fields->Add("spec.loss", "expected one of the kinds, got none");
      break;
  }
  if (spec->layers.empty()) return;
  const engine::LayerSpec& last = spec->layers.back();
  const std::string field = absl::StrCat("spec.layers[", spec->layers.size() - 1, "]");
  if (last.activation != Activation::kIdentity) {
    fields->Add(field + ".activation",
                "must be IDENTITY, because a cross-entropy loss takes logits");
  }
  if (spec->loss == Loss::kSoftmaxCrossEntropy && last.units == 1) {
    fields->Add(field + ".units", "must be at least 2 for softmax cross-entropy, got 1");
  }
}

// A number that must lie in [0, 1), or be positive, also after rounding to the model's precision.
class Hyperparameters {
 public:
  Hyperparameters(DataType type, Fields* fields) : type_(type), fields_(fields) {}

  void Positive(absl::string_view field, double value) const {
    const double rounded = Round(value);
    if (rounded > 0 && std::isfinite(rounded)) return;
    fields_->Add(field,
                 absl::StrCat("must be positive and finite in the model's precision, got ", value));
  }
  void Fraction(absl::string_view field, double value) const {
    if (value >= 0 && Round(value) < 1) return;
    fields_->Add(field, absl::StrCat("must be in [0, 1), got ", value));
  }

 private:
  double Round(double value) const {
    return type_ == DataType::kFloat32 ? static_cast<double>(static_cast<float>(value)) : value;
  }

  DataType type_;
  Fields* fields_;
};

void DecodeOptimizer(const v1::ModelSpec& message, engine::NetworkSpec* spec, Fields* fields) {
  engine::OptimizerSpec& out = spec->optimizer;
  const Hyperparameters check(spec->data_type, fields);
  switch (message.optimizer().kind_case()) {
    case v1::Optimizer::kSgd: {
      const v1::Sgd& sgd = message.optimizer().sgd();
      if (sgd.has_learning_rate()) out.learning_rate = sgd.learning_rate();
      if (sgd.has_momentum()) out.momentum = sgd.momentum();
      check.Positive("spec.optimizer.sgd.learning_rate", out.learning_rate);
      check.Fraction("spec.optimizer.sgd.momentum", out.momentum);
      break;
    }
    case v1::Optimizer::kAdam: {
      const v1::Adam& adam = message.optimizer().adam();
      out.kind = OptimizerKind::kAdam;
      if (adam.has_learning_rate()) out.learning_rate = adam.learning_rate();
      if (adam.has_beta1()) out.beta1 = adam.beta1();
      if (adam.has_beta2()) out.beta2 = adam.beta2();
      if (adam.has_epsilon()) out.epsilon = adam.epsilon();
      check.Positive("spec.optimizer.adam.learning_rate", out.learning_rate);
      check.Fraction("spec.optimizer.adam.beta1", out.beta1);
      check.Fraction("spec.optimizer.adam.beta2", out.beta2);
      check.Positive("spec.optimizer.adam.epsilon", out.epsilon);
      break;
    }
    case v1::Optimizer::KIND_NOT_SET:
      if (message.has_optimizer()) {
        fields->Add("spec.optimizer", "expected one of the kinds, got none");
      }
      break;
  }
}

void CheckNames(const google::protobuf::RepeatedPtrField<std::string>& names,
                const std::string& field, int64_t expected, Fields* fields) {
  if (names.empty()) return;
  if (names.size() != expected) {
    fields->Add(field, absl::StrCat("expected ", expected, " names or none, got ", names.size()));
    return;
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (int i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const std::string path = absl::StrCat(field, "[", i, "]");
    if (name.empty()) fields->Add(path, "must not be empty");
    if (name.size() > kMaxNameBytes) {
      fields->Add(path,
                  absl::StrCat("must have at most ", kMaxNameBytes, " bytes, got ", name.size()));
    }
    if (!seen.insert(name).second) fields->Add(path, "is there twice");
  }
}

}  // namespace

absl::StatusOr<engine::NetworkSpec> DecodeSpec(const v1::ModelSpec& message,
                                               const session::Limits& limits) {
  if (message.layers_size() > limits.max_layers) {
    return session::LimitError("spec.layers",
                               absl::StrCat("has ", message.layers_size(),
                                            " layers, more than the limit of ", limits.max_layers));
  }
  Fields fields;
  engine::NetworkSpec spec;
  spec.input_size = message.input_size();
  spec.seed = message.seed();
  if (message.input_size() < 1) {
    fields.Add("spec.input_size", absl::StrCat("must be at least 1, got ", message.input_size()));
  }
  spec.data_type = Decode(kDataTypes, message.data_type(), DataType::kFloat32, "spec.data_type",
                          "FLOAT32 or FLOAT64", &fields);
  DecodeLayers(message, &spec, &fields);
  DecodeLoss(message, &spec, &fields);
  DecodeOptimizer(message, &spec, &fields);
  if (fields.ok()) {
    const int64_t outputs = spec.layers.back().units;
    const bool binary = spec.loss == Loss::kBinaryCrossEntropy && outputs == 1;
    CheckNames(message.class_names(), "spec.class_names", binary ? 2 : outputs, &fields);
    if (spec.loss == Loss::kMeanSquaredError && !message.class_names().empty()) {
      fields.Add("spec.class_names", "must be empty for mean squared error");
    }
    CheckNames(message.feature_names(), "spec.feature_names", spec.input_size, &fields);
  }
  if (!fields.ok()) return fields.status();
  if (engine::CountParameters(spec, limits.max_parameters) < 0) {
    return session::LimitError(
        "spec.layers", absl::StrCat("the model would have more parameters than the limit of ",
                                    limits.max_parameters));
  }
  return spec;
}

void EncodeSpec(const engine::NetworkSpec& spec, v1::ModelSpec* message) {
  message->set_input_size(static_cast<int32_t>(spec.input_size));
  for (const engine::LayerSpec& layer : spec.layers) {
    v1::Layer* out = message->add_layers();
    out->set_units(static_cast<int32_t>(layer.units));
    out->set_activation(Encode(kActivations, layer.activation));
    out->set_initializer(Encode(kInitializers, layer.initializer));
  }
  switch (spec.loss) {
    case Loss::kSoftmaxCrossEntropy:
      message->mutable_loss()->mutable_softmax_cross_entropy();
      break;
    case Loss::kBinaryCrossEntropy:
      message->mutable_loss()->mutable_binary_cross_entropy();
      break;
    case Loss::kMeanSquaredError:
      message->mutable_loss()->mutable_mean_squared_error();
      break;
  }
  const engine::OptimizerSpec& optimizer = spec.optimizer;
  if (optimizer.kind == OptimizerKind::kSgd) {
    v1::Sgd* sgd = message->mutable_optimizer()->mutable_sgd();
    sgd->set_learning_rate(optimizer.learning_rate);
    sgd->set_momentum(optimizer.momentum);
  } else {
    v1::Adam* adam = message->mutable_optimizer()->mutable_adam();
    adam->set_learning_rate(optimizer.learning_rate);
    adam->set_beta1(optimizer.beta1);
    adam->set_beta2(optimizer.beta2);
    adam->set_epsilon(optimizer.epsilon);
  }
  message->set_seed(spec.seed);
  message->set_data_type(Encode(kDataTypes, spec.data_type));
}

}  // namespace backprop::rpc
