// Conversion of specs. The API's enums have "unspecified" first and then the same order as the
// client's.
#include <utility>

#include "client/backprop/convert.h"

namespace backprop {
namespace {

using Numbers = google::protobuf::RepeatedField<double>;

std::vector<double> ToVector(const Numbers& numbers) { return {numbers.begin(), numbers.end()}; }

// An overload set for std::visit: one overload per alternative of a variant.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

void ToMessage(const Layer& layer, v1::Layer* out) {
  out->set_units(layer.units);
  out->set_activation(static_cast<v1::Activation>(layer.activation));
  out->set_initializer(static_cast<v1::Initializer>(layer.initializer));
  if (layer.negative_slope.has_value()) out->set_negative_slope(*layer.negative_slope);
  if (layer.alpha.has_value()) out->set_alpha(*layer.alpha);
  if (layer.dropout != 0) out->set_dropout(layer.dropout);
  if (layer.initial_value.has_value()) out->set_initial_value(*layer.initial_value);
  out->set_bias_initializer(static_cast<v1::Initializer>(layer.bias_initializer));
  if (layer.initial_bias.has_value()) out->set_initial_bias(*layer.initial_bias);
}

Layer FromMessage(const v1::Layer& message) {
  Layer layer;
  layer.units = message.units();
  layer.activation = static_cast<Activation>(message.activation());
  layer.initializer = static_cast<Initializer>(message.initializer());
  if (message.has_negative_slope()) layer.negative_slope = message.negative_slope();
  if (message.has_alpha()) layer.alpha = message.alpha();
  layer.dropout = message.dropout();
  if (message.has_initial_value()) layer.initial_value = message.initial_value();
  layer.bias_initializer = static_cast<Initializer>(message.bias_initializer());
  if (message.has_initial_bias()) layer.initial_bias = message.initial_bias();
  return layer;
}

void ToMessage(const Loss& loss, v1::Loss* message) {
  std::visit(
      Overloaded{
          [&](const SoftmaxCrossEntropy& from) {
            v1::SoftmaxCrossEntropy* out = message->mutable_softmax_cross_entropy();
            if (from.label_smoothing != 0) out->set_label_smoothing(from.label_smoothing);
            *out->mutable_class_weights() = {from.class_weights.begin(), from.class_weights.end()};
          },
          [&](const BinaryCrossEntropy& from) {
            v1::BinaryCrossEntropy* out = message->mutable_binary_cross_entropy();
            *out->mutable_pos_weight() = {from.pos_weight.begin(), from.pos_weight.end()};
            *out->mutable_class_weights() = {from.class_weights.begin(), from.class_weights.end()};
          },
          [&](const MeanSquaredError&) { message->mutable_mean_squared_error(); },
          [&](const MeanAbsoluteError&) { message->mutable_mean_absolute_error(); },
          [&](const Huber& from) { message->mutable_huber()->set_delta(from.delta); }},
      loss);
}

Loss FromMessage(const v1::Loss& message) {
  switch (message.kind_case()) {
    case v1::Loss::kBinaryCrossEntropy:
      return BinaryCrossEntropy{ToVector(message.binary_cross_entropy().pos_weight()),
                                ToVector(message.binary_cross_entropy().class_weights())};
    case v1::Loss::kMeanSquaredError:
      return MeanSquaredError{};
    case v1::Loss::kMeanAbsoluteError:
      return MeanAbsoluteError{};
    case v1::Loss::kHuber: {
      Huber huber;
      if (message.huber().has_delta()) huber.delta = message.huber().delta();
      return huber;
    }
    default:
      return SoftmaxCrossEntropy{message.softmax_cross_entropy().label_smoothing(),
                                 ToVector(message.softmax_cross_entropy().class_weights())};
  }
}

template <class From, class Message>
void AdamToMessage(const From& from, Message* out) {
  out->set_learning_rate(from.learning_rate);
  out->set_beta1(from.beta1);
  out->set_beta2(from.beta2);
  out->set_epsilon(from.epsilon);
  out->set_weight_decay(from.weight_decay);
}

void ToMessage(const Optimizer& optimizer, v1::Optimizer* message) {
  std::visit(Overloaded{[&](const Sgd& from) {
                          v1::Sgd* out = message->mutable_sgd();
                          out->set_learning_rate(from.learning_rate);
                          out->set_momentum(from.momentum);
                          out->set_nesterov(from.nesterov);
                          out->set_weight_decay(from.weight_decay);
                        },
                        [&](const Adam& from) { AdamToMessage(from, message->mutable_adam()); },
                        [&](const AdamW& from) { AdamToMessage(from, message->mutable_adamw()); },
                        [&](const RmsProp& from) {
                          v1::RmsProp* out = message->mutable_rmsprop();
                          out->set_learning_rate(from.learning_rate);
                          out->set_alpha(from.alpha);
                          out->set_epsilon(from.epsilon);
                          out->set_momentum(from.momentum);
                          out->set_centered(from.centered);
                          out->set_weight_decay(from.weight_decay);
                        },
                        [&](const Adagrad& from) {
                          v1::Adagrad* out = message->mutable_adagrad();
                          out->set_learning_rate(from.learning_rate);
                          out->set_lr_decay(from.lr_decay);
                          out->set_epsilon(from.epsilon);
                          out->set_initial_accumulator_value(from.initial_accumulator_value);
                          out->set_weight_decay(from.weight_decay);
                        }},
             optimizer);
}

// Copies the value of an optional field if it is set.
#define BACKPROP_TAKE(field) \
  if (from.has_##field()) out.field = from.field()

template <class To, class Message>
To AdamFromMessage(const Message& from) {
  To out;
  BACKPROP_TAKE(learning_rate);
  BACKPROP_TAKE(beta1);
  BACKPROP_TAKE(beta2);
  BACKPROP_TAKE(epsilon);
  BACKPROP_TAKE(weight_decay);
  return out;
}

Sgd FromMessage(const v1::Sgd& from) {
  Sgd out;
  BACKPROP_TAKE(learning_rate);
  BACKPROP_TAKE(momentum);
  out.nesterov = from.nesterov();
  BACKPROP_TAKE(weight_decay);
  return out;
}

RmsProp FromMessage(const v1::RmsProp& from) {
  RmsProp out;
  BACKPROP_TAKE(learning_rate);
  BACKPROP_TAKE(alpha);
  BACKPROP_TAKE(epsilon);
  BACKPROP_TAKE(momentum);
  out.centered = from.centered();
  BACKPROP_TAKE(weight_decay);
  return out;
}

Adagrad FromMessage(const v1::Adagrad& from) {
  Adagrad out;
  BACKPROP_TAKE(learning_rate);
  BACKPROP_TAKE(lr_decay);
  BACKPROP_TAKE(epsilon);
  BACKPROP_TAKE(initial_accumulator_value);
  BACKPROP_TAKE(weight_decay);
  return out;
}

ReduceOnPlateauSchedule FromMessage(const v1::ReduceOnPlateauSchedule& from) {
  ReduceOnPlateauSchedule out;
  BACKPROP_TAKE(factor);
  BACKPROP_TAKE(patience);
  BACKPROP_TAKE(threshold);
  BACKPROP_TAKE(cooldown);
  BACKPROP_TAKE(min_learning_rate);
  return out;
}

#undef BACKPROP_TAKE

Optimizer OptimizerFromMessage(const v1::Optimizer& message) {
  switch (message.kind_case()) {
    case v1::Optimizer::kAdam:
      return AdamFromMessage<Adam>(message.adam());
    case v1::Optimizer::kAdamw:
      return AdamFromMessage<AdamW>(message.adamw());
    case v1::Optimizer::kRmsprop:
      return FromMessage(message.rmsprop());
    case v1::Optimizer::kAdagrad:
      return FromMessage(message.adagrad());
    default:
      return FromMessage(message.sgd());
  }
}

void ToMessage(const Schedule& schedule, v1::Schedule* message) {
  message->set_warmup_steps(schedule.warmup_steps);
  if (schedule.warmup_start_factor.has_value()) {
    message->set_warmup_start_factor(*schedule.warmup_start_factor);
  }
  std::visit(Overloaded{[](const ConstantSchedule&) {},
                        [&](const StepSchedule& from) {
                          message->mutable_step()->set_step_size(from.step_size);
                          message->mutable_step()->set_gamma(from.gamma);
                        },
                        [&](const ExponentialSchedule& from) {
                          message->mutable_exponential()->set_gamma(from.gamma);
                        },
                        [&](const CosineSchedule& from) {
                          message->mutable_cosine()->set_total_steps(from.total_steps);
                          message->mutable_cosine()->set_min_learning_rate(from.min_learning_rate);
                        },
                        [&](const ReduceOnPlateauSchedule& from) {
                          v1::ReduceOnPlateauSchedule* out = message->mutable_reduce_on_plateau();
                          out->set_factor(from.factor);
                          out->set_patience(from.patience);
                          out->set_threshold(from.threshold);
                          out->set_cooldown(from.cooldown);
                          out->set_min_learning_rate(from.min_learning_rate);
                        }},
             schedule.kind);
}

Schedule FromMessage(const v1::Schedule& message) {
  Schedule schedule;
  schedule.warmup_steps = message.warmup_steps();
  if (message.has_warmup_start_factor()) {
    schedule.warmup_start_factor = message.warmup_start_factor();
  }
  if (message.has_step()) {
    const double gamma = message.step().has_gamma() ? message.step().gamma() : 0.1;
    schedule.kind = StepSchedule{message.step().step_size(), gamma};
  } else if (message.has_exponential()) {
    schedule.kind = ExponentialSchedule{message.exponential().gamma()};
  } else if (message.has_cosine()) {
    schedule.kind =
        CosineSchedule{message.cosine().total_steps(), message.cosine().min_learning_rate()};
  } else if (message.has_reduce_on_plateau()) {
    schedule.kind = FromMessage(message.reduce_on_plateau());
  }
  return schedule;
}

}  // namespace

void ToMessage(const InputStandardization& from, v1::InputStandardization* message) {
  *message->mutable_mean() = {from.mean.begin(), from.mean.end()};
  *message->mutable_std() = {from.std.begin(), from.std.end()};
}

InputStandardization FromMessage(const v1::InputStandardization& message) {
  return {ToVector(message.mean()), ToVector(message.std())};
}

void ToMessage(const ModelSpec& spec, v1::ModelSpec* message) {
  message->set_input_size(spec.input_size);
  for (const Layer& layer : spec.layers) ToMessage(layer, message->add_layers());
  ToMessage(spec.loss, message->mutable_loss());
  v1::Optimizer* optimizer = message->mutable_optimizer();
  ToMessage(spec.optimizer, optimizer);
  const bool constant = std::holds_alternative<ConstantSchedule>(spec.schedule.kind);
  if (!constant || spec.schedule.warmup_steps != 0 ||
      spec.schedule.warmup_start_factor.has_value()) {
    ToMessage(spec.schedule, optimizer->mutable_schedule());
  }
  if (spec.l1 != 0) optimizer->set_l1(spec.l1);
  if (const auto* norm = std::get_if<ClipNorm>(&spec.clipping)) {
    optimizer->set_clip_norm(norm->max_norm);
  } else if (const auto* value = std::get_if<ClipValue>(&spec.clipping)) {
    optimizer->set_clip_value(value->max_value);
  }
  message->set_seed(spec.seed);
  message->set_data_type(ToMessage(spec.data_type));
  message->mutable_class_names()->Add(spec.class_names.begin(), spec.class_names.end());
  message->mutable_feature_names()->Add(spec.feature_names.begin(), spec.feature_names.end());
  if (spec.input_standardization.has_value()) {
    ToMessage(*spec.input_standardization, message->mutable_input_standardization());
  }
}

ModelSpec FromMessage(const v1::ModelSpec& message) {
  ModelSpec spec;
  spec.input_size = message.input_size();
  for (const v1::Layer& layer : message.layers()) spec.layers.push_back(FromMessage(layer));
  spec.loss = FromMessage(message.loss());
  const v1::Optimizer& optimizer = message.optimizer();
  spec.optimizer = OptimizerFromMessage(optimizer);
  spec.schedule = FromMessage(optimizer.schedule());
  spec.l1 = optimizer.l1();
  if (optimizer.has_clip_norm()) spec.clipping = ClipNorm{optimizer.clip_norm()};
  if (optimizer.has_clip_value()) spec.clipping = ClipValue{optimizer.clip_value()};
  spec.seed = message.seed();
  spec.data_type = FromMessage(message.data_type());
  spec.class_names.assign(message.class_names().begin(), message.class_names().end());
  spec.feature_names.assign(message.feature_names().begin(), message.feature_names().end());
  if (message.has_input_standardization()) {
    spec.input_standardization = FromMessage(message.input_standardization());
  }
  return spec;
}

}  // namespace backprop
