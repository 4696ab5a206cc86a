#include "server/codec/optimizer_codec.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/codec/number_rules.h"

namespace backprop::codec {
namespace {

using engine::OptimizerKind;
using engine::OptimizerSpec;
using engine::ScheduleKind;

void DecodeSgd(const v1::Sgd& sgd, const NumberRules& check, base::Fields* fields,
               OptimizerSpec* out) {
  const std::string field = "spec.optimizer.sgd.";
  if (sgd.has_learning_rate()) out->learning_rate = sgd.learning_rate();
  if (sgd.has_momentum()) out->momentum = sgd.momentum();
  if (sgd.has_weight_decay()) out->weight_decay = sgd.weight_decay();
  out->nesterov = sgd.nesterov();
  check.Positive(field + "learning_rate", out->learning_rate);
  check.Fraction(field + "momentum", out->momentum);
  check.NotNegative(field + "weight_decay", out->weight_decay);
  if (out->nesterov && out->momentum == 0) {
    fields->Add(field + "nesterov", "requires a momentum above 0");
  }
}

// Adam and AdamW have the same fields.
template <class Message>
void DecodeAdam(const Message& adam, const std::string& field, const NumberRules& check,
                OptimizerSpec* out) {
  if (adam.has_learning_rate()) out->learning_rate = adam.learning_rate();
  if (adam.has_beta1()) out->beta1 = adam.beta1();
  if (adam.has_beta2()) out->beta2 = adam.beta2();
  if (adam.has_epsilon()) out->epsilon = adam.epsilon();
  if (adam.has_weight_decay()) out->weight_decay = adam.weight_decay();
  check.Positive(field + "learning_rate", out->learning_rate);
  check.Fraction(field + "beta1", out->beta1);
  check.Fraction(field + "beta2", out->beta2);
  check.Positive(field + "epsilon", out->epsilon);
  check.NotNegative(field + "weight_decay", out->weight_decay);
}

void DecodeRmsProp(const v1::RmsProp& rmsprop, const NumberRules& check, OptimizerSpec* out) {
  const std::string field = "spec.optimizer.rmsprop.";
  out->learning_rate = rmsprop.has_learning_rate() ? rmsprop.learning_rate() : 0.01;
  if (rmsprop.has_alpha()) out->alpha = rmsprop.alpha();
  if (rmsprop.has_epsilon()) out->epsilon = rmsprop.epsilon();
  if (rmsprop.has_momentum()) out->momentum = rmsprop.momentum();
  if (rmsprop.has_weight_decay()) out->weight_decay = rmsprop.weight_decay();
  out->centered = rmsprop.centered();
  check.Positive(field + "learning_rate", out->learning_rate);
  check.Fraction(field + "alpha", out->alpha);
  check.Positive(field + "epsilon", out->epsilon);
  check.Fraction(field + "momentum", out->momentum);
  check.NotNegative(field + "weight_decay", out->weight_decay);
}

void DecodeAdagrad(const v1::Adagrad& adagrad, const NumberRules& check, OptimizerSpec* out) {
  const std::string field = "spec.optimizer.adagrad.";
  out->learning_rate = adagrad.has_learning_rate() ? adagrad.learning_rate() : 0.01;
  out->epsilon = adagrad.has_epsilon() ? adagrad.epsilon() : 1e-10;
  out->lr_decay = adagrad.lr_decay();
  out->initial_accumulator_value = adagrad.initial_accumulator_value();
  out->weight_decay = adagrad.weight_decay();
  check.Positive(field + "learning_rate", out->learning_rate);
  check.NotNegative(field + "lr_decay", out->lr_decay);
  check.Positive(field + "epsilon", out->epsilon);
  check.NotNegative(field + "initial_accumulator_value", out->initial_accumulator_value);
  check.NotNegative(field + "weight_decay", out->weight_decay);
}

void DecodeMinimum(const std::string& field, double value, double learning_rate,
                   base::Fields* fields, engine::ScheduleSpec* out) {
  out->min_learning_rate = value;
  if (value >= 0 && value <= learning_rate) return;
  fields->Add(field, absl::StrCat("must be in [0, learning_rate], got ", value));
}

void DecodeSchedule(const v1::Schedule& message, double learning_rate, const NumberRules& check,
                    base::Fields* fields, engine::ScheduleSpec* out) {
  const std::string field = "spec.optimizer.schedule.";
  out->warmup_steps = message.warmup_steps();
  check.AtLeast(field + "warmup_steps", out->warmup_steps, 0);
  if (message.has_warmup_start_factor()) {
    out->warmup_start_factor = message.warmup_start_factor();
    check.Factor(field + "warmup_start_factor", out->warmup_start_factor);
    if (out->warmup_steps == 0) {
      fields->Add(field + "warmup_start_factor", "requires warmup_steps above 0");
    }
  }
  switch (message.kind_case()) {
    case v1::Schedule::kStep:
      out->kind = ScheduleKind::kStep;
      out->step_size = message.step().step_size();
      if (message.step().has_gamma()) out->gamma = message.step().gamma();
      check.AtLeast(field + "step.step_size", out->step_size, 1);
      check.Factor(field + "step.gamma", out->gamma);
      break;
    case v1::Schedule::kExponential:
      out->kind = ScheduleKind::kExponential;
      out->gamma = message.exponential().gamma();
      check.Factor(field + "exponential.gamma", out->gamma);
      break;
    case v1::Schedule::kCosine:
      out->kind = ScheduleKind::kCosine;
      out->total_steps = message.cosine().total_steps();
      check.AtLeast(field + "cosine.total_steps", out->total_steps, 1);
      DecodeMinimum(field + "cosine.min_learning_rate", message.cosine().min_learning_rate(),
                    learning_rate, fields, out);
      break;
    case v1::Schedule::kReduceOnPlateau: {
      const v1::ReduceOnPlateauSchedule& plateau = message.reduce_on_plateau();
      const std::string path = field + "reduce_on_plateau.";
      out->kind = ScheduleKind::kReduceOnPlateau;
      if (plateau.has_factor()) out->factor = plateau.factor();
      if (plateau.has_patience()) out->patience = plateau.patience();
      if (plateau.has_threshold()) out->threshold = plateau.threshold();
      out->cooldown = plateau.cooldown();
      check.Inside(path + "factor", out->factor);
      check.AtLeast(path + "patience", out->patience, 0);
      check.Fraction(path + "threshold", out->threshold);
      check.AtLeast(path + "cooldown", out->cooldown, 0);
      DecodeMinimum(path + "min_learning_rate", plateau.min_learning_rate(), learning_rate, fields,
                    out);
      break;
    }
    case v1::Schedule::KIND_NOT_SET:
      break;
  }
}

template <class Message>
void EncodeAdam(const OptimizerSpec& spec, Message* out) {
  out->set_learning_rate(spec.learning_rate);
  out->set_beta1(spec.beta1);
  out->set_beta2(spec.beta2);
  out->set_epsilon(spec.epsilon);
  out->set_weight_decay(spec.weight_decay);
}

void EncodeSchedule(const engine::ScheduleSpec& schedule, v1::Schedule* message) {
  message->set_warmup_steps(schedule.warmup_steps);
  if (schedule.warmup_steps > 0) message->set_warmup_start_factor(schedule.warmup_start_factor);
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      break;
    case ScheduleKind::kStep:
      message->mutable_step()->set_step_size(schedule.step_size);
      message->mutable_step()->set_gamma(schedule.gamma);
      break;
    case ScheduleKind::kExponential:
      message->mutable_exponential()->set_gamma(schedule.gamma);
      break;
    case ScheduleKind::kCosine:
      message->mutable_cosine()->set_total_steps(schedule.total_steps);
      message->mutable_cosine()->set_min_learning_rate(schedule.min_learning_rate);
      break;
    case ScheduleKind::kReduceOnPlateau: {
      v1::ReduceOnPlateauSchedule* plateau = message->mutable_reduce_on_plateau();
      plateau->set_factor(schedule.factor);
      plateau->set_patience(schedule.patience);
      plateau->set_threshold(schedule.threshold);
      plateau->set_cooldown(schedule.cooldown);
      plateau->set_min_learning_rate(schedule.min_learning_rate);
      break;
    }
  }
}

}  // namespace

OptimizerSpec DecodeOptimizer(const v1::ModelSpec& spec, engine::DataType type,
                              base::Fields* fields) {
  OptimizerSpec out;
  const v1::Optimizer& message = spec.optimizer();
  const NumberRules check(type, fields);
  switch (message.kind_case()) {
    case v1::Optimizer::kSgd:
      DecodeSgd(message.sgd(), check, fields, &out);
      break;
    case v1::Optimizer::kAdam:
      out.kind = OptimizerKind::kAdam;
      DecodeAdam(message.adam(), "spec.optimizer.adam.", check, &out);
      break;
    case v1::Optimizer::kAdamw:
      out.kind = OptimizerKind::kAdamW;
      out.weight_decay = 0.01;
      DecodeAdam(message.adamw(), "spec.optimizer.adamw.", check, &out);
      break;
    case v1::Optimizer::kRmsprop:
      out.kind = OptimizerKind::kRmsProp;
      DecodeRmsProp(message.rmsprop(), check, &out);
      break;
    case v1::Optimizer::kAdagrad:
      out.kind = OptimizerKind::kAdagrad;
      DecodeAdagrad(message.adagrad(), check, &out);
      break;
    case v1::Optimizer::KIND_NOT_SET:
      if (spec.has_optimizer())
        fields->Add("spec.optimizer", "expected one kind of optimiser, got none");
      break;
  }
  if (message.has_l1()) {
    out.l1 = message.l1();
    check.NotNegative("spec.optimizer.l1", out.l1);
  }
  if (message.clipping_case() == v1::Optimizer::kClipNorm) {
    out.clipping = engine::Clipping::kNorm;
    out.clip = message.clip_norm();
    check.Positive("spec.optimizer.clip_norm", out.clip);
  } else if (message.clipping_case() == v1::Optimizer::kClipValue) {
    out.clipping = engine::Clipping::kValue;
    out.clip = message.clip_value();
    check.Positive("spec.optimizer.clip_value", out.clip);
  }
  DecodeSchedule(message.schedule(), out.learning_rate, check, fields, &out.schedule);
  return out;
}

void EncodeOptimizer(const OptimizerSpec& spec, v1::Optimizer* message) {
  switch (spec.kind) {
    case OptimizerKind::kSgd: {
      v1::Sgd* sgd = message->mutable_sgd();
      sgd->set_learning_rate(spec.learning_rate);
      sgd->set_momentum(spec.momentum);
      sgd->set_nesterov(spec.nesterov);
      sgd->set_weight_decay(spec.weight_decay);
      break;
    }
    case OptimizerKind::kAdam:
      EncodeAdam(spec, message->mutable_adam());
      break;
    case OptimizerKind::kAdamW:
      EncodeAdam(spec, message->mutable_adamw());
      break;
    case OptimizerKind::kRmsProp: {
      v1::RmsProp* rmsprop = message->mutable_rmsprop();
      rmsprop->set_learning_rate(spec.learning_rate);
      rmsprop->set_alpha(spec.alpha);
      rmsprop->set_epsilon(spec.epsilon);
      rmsprop->set_momentum(spec.momentum);
      rmsprop->set_centered(spec.centered);
      rmsprop->set_weight_decay(spec.weight_decay);
      break;
    }
    case OptimizerKind::kAdagrad: {
      v1::Adagrad* adagrad = message->mutable_adagrad();
      adagrad->set_learning_rate(spec.learning_rate);
      adagrad->set_lr_decay(spec.lr_decay);
      adagrad->set_epsilon(spec.epsilon);
      adagrad->set_initial_accumulator_value(spec.initial_accumulator_value);
      adagrad->set_weight_decay(spec.weight_decay);
      break;
    }
  }
  if (spec.l1 > 0) message->set_l1(spec.l1);
  if (spec.clipping == engine::Clipping::kNorm) message->set_clip_norm(spec.clip);
  if (spec.clipping == engine::Clipping::kValue) message->set_clip_value(spec.clip);
  const bool constant = spec.schedule.kind == ScheduleKind::kConstant;
  if (!constant || spec.schedule.warmup_steps > 0) {
    EncodeSchedule(spec.schedule, message->mutable_schedule());
  }
}

}  // namespace backprop::codec
