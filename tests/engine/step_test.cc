// Optimiser steps, held to the reference over many of them.
#include "server/engine/step.h"

#include <gtest/gtest.h>

#include <cmath>

#include "server/engine/loss.h"
#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

OptimizerSpec Optimizer(OptimizerKind kind, double learning_rate, double momentum = 0) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.learning_rate = learning_rate;
  spec.momentum = momentum;
  return spec;
}

TEST(StepTest, TrajectoriesFollowTheReference) {
  const OptimizerSpec optimizers[] = {Optimizer(OptimizerKind::kSgd, 0.1),
                                      Optimizer(OptimizerKind::kSgd, 0.05, 0.9),
                                      Optimizer(OptimizerKind::kAdam, 0.01)};
  for (const OptimizerSpec& optimizer : optimizers) {
    for (Loss loss : kLosses) {
      SCOPED_TRACE(testing::Message()
                   << "optimizer " << static_cast<int>(optimizer.kind) << " momentum "
                   << optimizer.momentum << " loss " << static_cast<int>(loss));
      CaseOptions options;
      options.optimizer = optimizer;
      options.loss = loss;
      options.wanted = Wanted::kTargets;
      Case c = MakeCase(options, 31);
      reference::Optimizer reference_optimizer;
      Workspace workspace;
      State next(*c.network);
      for (int step = 1; step <= 200; ++step) {
        const auto expected = reference::ForwardBackward(c.network->spec(), c.layers, c.batch);
        reference::Apply(optimizer, expected.grads, &c.layers, &reference_optimizer);
        const StepResult result = TrainStep(*c.network, *c.state, c.data.All(), &workspace, &next);
        ASSERT_EQ(result.not_finite, NotFinite::kNothing);
        ASSERT_NEAR(result.loss, expected.loss, 1e-11);
        double squares = 0;
        for (double g : Flatten(expected.grads)) squares += g * g;
        ASSERT_NEAR(result.gradient_norm, std::sqrt(squares), 1e-11);
        std::swap(*c.state, next);
        ASSERT_EQ(c.state->step, step);
        ASSERT_EQ(c.state->optimizer_step, step);
      }
      EXPECT_LE(LargestDifference(ToDoubles(c.state->values, 0, c.network->parameter_count()),
                                  Flatten(c.layers)),
                1e-9);
    }
  }
}

TEST(StepTest, TheStateBeforeIsLeftAlone) {
  const Case c = MakeCase(CaseOptions{}, 4);
  const auto before = ToDoubles(c.state->values, 0, c.state->values.count());
  Workspace workspace;
  State next(*c.network);
  TrainStep(*c.network, *c.state, c.data.All(), &workspace, &next);
  EXPECT_EQ(ToDoubles(c.state->values, 0, c.state->values.count()), before);
  EXPECT_NE(ToDoubles(next.values, 0, next.values.count()), before);
  EXPECT_EQ(c.state->step, 0);
}

// Each way in which numbers stop being finite is noticed at the step where it happens.
TEST(StepTest, WhatIsNotFiniteIsNamed) {
  CaseOptions options;
  options.data_type = DataType::kFloat32;
  options.loss = Loss::kMeanSquaredError;
  options.wanted = Wanted::kTargets;
  options.hidden = {Activation::kIdentity};
  Workspace workspace;

  Case loss = MakeCase(options, 1);
  for (int64_t i = 0; i < loss.network->parameter_count(); ++i) loss.state->values.Set(i, 1e30);
  State next(*loss.network);
  EXPECT_EQ(TrainStep(*loss.network, *loss.state, loss.data.All(), &workspace, &next).not_finite,
            NotFinite::kLoss);

  // A finite loss with an overflowing gradient: an error of 1e9 times a weight of 3e38.
  options.units = {1, 1};
  options.inputs = 1;
  options.rows = 1;
  Case gradient = MakeCase(options, 1);
  const double parameters[] = {1e-30, 0, 3e38, 0};  // W1, b1, W2, b2
  for (int64_t i = 0; i < 4; ++i) gradient.state->values.Set(i, parameters[i]);
  gradient.data.inputs.Set(0, 1);
  gradient.data.targets.Set(0, 1e9);
  EXPECT_EQ(TrainStep(*gradient.network, *gradient.state, gradient.data.All(), &workspace, &next)
                .not_finite,
            NotFinite::kGradient);

  options.optimizer.learning_rate = 1e300;
  options.data_type = DataType::kFloat64;
  Case state = MakeCase(options, 1);
  for (int64_t i = 0; i < 4; ++i) state.state->values.Set(i, 1);
  state.data.inputs.Set(0, 1e5);
  State next64(*state.network);
  EXPECT_EQ(
      TrainStep(*state.network, *state.state, state.data.All(), &workspace, &next64).not_finite,
      NotFinite::kNextState);
}

TEST(StepTest, PredictAndEvaluateAgreeWithTheReference) {
  for (Loss loss : kLosses) {
    CaseOptions options;
    options.loss = loss;
    options.wanted = Wanted::kTargets;
    options.units = {5, loss == Loss::kBinaryCrossEntropy ? 1 : 3};
    const Case c = MakeCase(options, 8);
    const auto expected = reference::ForwardBackward(c.network->spec(), c.layers, c.batch);
    const auto n = static_cast<size_t>(c.data.rows);
    const auto k = static_cast<size_t>(c.network->outputs());
    Workspace workspace;
    const EvaluateResult evaluated = Evaluate(*c.network, *c.state, c.data.All(), &workspace);
    EXPECT_NEAR(evaluated.loss_sum / static_cast<double>(n), expected.loss, 1e-12);
    if (HasAccuracy(loss)) EXPECT_EQ(evaluated.correct, expected.correct);
    std::vector<double> logits(n * k), probabilities(n * k);
    std::vector<int32_t> classes(n);
    PredictTargets out;
    out.logits = reinterpret_cast<std::byte*>(logits.data());
    if (HasAccuracy(loss)) {
      out.probabilities = reinterpret_cast<std::byte*>(probabilities.data());
      out.classes = classes.data();
    }
    Predict(*c.network, *c.state, c.data.All(), &workspace, out);
    for (size_t i = 0; i < n; ++i) {
      const auto p = reference::Probabilities(loss, expected.logits[i]);
      for (size_t j = 0; j < k; ++j) {
        EXPECT_NEAR(logits[i * k + j], expected.logits[i][j], 1e-12);
        if (HasAccuracy(loss)) EXPECT_NEAR(probabilities[i * k + j], p[j], 1e-12);
      }
      if (loss == Loss::kBinaryCrossEntropy) EXPECT_EQ(classes[i], p[0] > 0.5 ? 1 : 0);
      if (loss == Loss::kSoftmaxCrossEntropy) {
        EXPECT_EQ(classes[i], std::max_element(p.begin(), p.end()) - p.begin());
      }
    }
  }
}

// The exercise the project grew from: 3,000 full-batch iterations on 200 points.
TEST(StepTest, XorIsLearnedInBothPrecisions) {
  for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    const Network network(XorSpec(1, type));
    const Dataset data = XorData(200, 1, type);
    auto state = InitialState(network);
    State next(network);
    Workspace workspace;
    StepResult result;
    for (int i = 0; i < 3000; ++i) {
      result = TrainStep(network, *state, data.All(), &workspace, &next);
      ASSERT_EQ(result.not_finite, NotFinite::kNothing);
      std::swap(*state, next);
    }
    EXPECT_GE(static_cast<double>(result.correct) / 200, 0.90);
    EXPECT_LT(result.loss, 0.25);
  }
}

}  // namespace
}  // namespace backprop::engine
