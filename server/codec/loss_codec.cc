#include "server/codec/loss_codec.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/codec/number_rules.h"
#include "server/engine/loss.h"

namespace backprop::codec {
namespace {

using engine::Loss;

std::vector<double> DecodeClassWeights(const google::protobuf::RepeatedField<double>& values,
                                       const std::string& field, int64_t count,
                                       const NumberRules& check, base::Fields* fields) {
  auto weights =
      DecodeList(values, field, count, "output", fields,
                 [&](const std::string& at, double value) { check.NotNegative(at, value); });
  if (!weights.empty() &&
      std::all_of(weights.begin(), weights.end(), [](double w) { return w == 0; })) {
    fields->Add(field, "must not all be 0");
  }
  return weights;
}

}  // namespace

void DecodeLoss(const v1::ModelSpec& message, engine::NetworkSpec* spec, base::Fields* fields) {
  const v1::Loss& loss = message.loss();
  const int64_t outputs = spec->layers.empty() ? 0 : spec->layers.back().units;
  const NumberRules check(spec->data_type, fields);
  switch (loss.kind_case()) {
    case v1::Loss::kBinaryCrossEntropy: {
      const v1::BinaryCrossEntropy& binary = loss.binary_cross_entropy();
      const std::string field = "spec.loss.binary_cross_entropy.";
      spec->loss.kind = Loss::kBinaryCrossEntropy;
      spec->loss.pos_weight =
          DecodeList(binary.pos_weight(), field + "pos_weight", outputs, "output", fields,
                     [&](const std::string& at, double value) { check.Positive(at, value); });
      spec->loss.class_weights = DecodeClassWeights(binary.class_weights(), field + "class_weights",
                                                    outputs, check, fields);
      break;
    }
    case v1::Loss::kMeanSquaredError:
      spec->loss.kind = Loss::kMeanSquaredError;
      break;
    case v1::Loss::kMeanAbsoluteError:
      spec->loss.kind = Loss::kMeanAbsoluteError;
      break;
    case v1::Loss::kHuber:
      spec->loss.kind = Loss::kHuber;
      if (loss.huber().has_delta()) spec->loss.delta = loss.huber().delta();
      check.Positive("spec.loss.huber.delta", spec->loss.delta);
      break;
    case v1::Loss::kSoftmaxCrossEntropy: {
      const v1::SoftmaxCrossEntropy& softmax = loss.softmax_cross_entropy();
      const std::string field = "spec.loss.softmax_cross_entropy.";
      spec->loss.label_smoothing = softmax.label_smoothing();
      check.Fraction(field + "label_smoothing", spec->loss.label_smoothing);
      spec->loss.class_weights = DecodeClassWeights(
          softmax.class_weights(), field + "class_weights", outputs, check, fields);
      break;
    }
    case v1::Loss::KIND_NOT_SET:
      if (message.has_loss()) fields->Add("spec.loss", "expected one kind of loss, got none");
      break;
  }
  if (spec->layers.empty() || !engine::Classifies(spec->loss.kind)) return;
  const engine::LayerSpec& last = spec->layers.back();
  const std::string field = absl::StrCat("spec.layers[", spec->layers.size() - 1, "]");
  if (last.activation != engine::Activation::kIdentity) {
    fields->Add(field + ".activation",
                "must be IDENTITY, because a cross-entropy loss takes logits");
  }
  if (spec->loss.kind == Loss::kSoftmaxCrossEntropy && last.units == 1) {
    fields->Add(field + ".units", "must be at least 2 for softmax cross-entropy, got 1");
  }
}

void EncodeLoss(const engine::LossSpec& loss, v1::Loss* message) {
  const auto& weights = loss.class_weights;
  switch (loss.kind) {
    case Loss::kSoftmaxCrossEntropy: {
      v1::SoftmaxCrossEntropy* softmax = message->mutable_softmax_cross_entropy();
      if (loss.label_smoothing > 0) softmax->set_label_smoothing(loss.label_smoothing);
      softmax->mutable_class_weights()->Add(weights.begin(), weights.end());
      break;
    }
    case Loss::kBinaryCrossEntropy: {
      v1::BinaryCrossEntropy* binary = message->mutable_binary_cross_entropy();
      binary->mutable_pos_weight()->Add(loss.pos_weight.begin(), loss.pos_weight.end());
      binary->mutable_class_weights()->Add(weights.begin(), weights.end());
      break;
    }
    case Loss::kMeanSquaredError:
      message->mutable_mean_squared_error();
      break;
    case Loss::kMeanAbsoluteError:
      message->mutable_mean_absolute_error();
      break;
    case Loss::kHuber:
      message->mutable_huber()->set_delta(loss.delta);
      break;
  }
}

}  // namespace backprop::codec
