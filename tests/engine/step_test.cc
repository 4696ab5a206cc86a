// Optimiser steps, compared with the reference over many steps.
#include "server/engine/step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <iterator>

#include "server/engine/loss.h"
#include "server/engine/optimizer.h"
#include "server/engine/schedule.h"
#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

// Makes some steps and compares with the reference after each.
void ExpectFollows(const CaseOptions& options, uint32_t seed, int steps) {
  Case c = MakeCase(options, seed);
  const OptimizerSpec& optimizer = c.network->spec().optimizer;
  reference::Optimizer reference_optimizer;
  std::vector<double> parameters = Flatten(c.layers);
  Workspace workspace;
  State next(*c.network);
  for (int step = 1; step <= steps; ++step) {
    c.layers = Unflatten(*c.network, parameters);
    const auto expected = c.Reference(static_cast<uint64_t>(step - 1));
    const double rate = reference::LearningRate(optimizer, reference_optimizer);
    reference::Apply(optimizer, Flatten(expected.grads), &parameters, &reference_optimizer);
    const StepResult result = TrainStep(*c.network, *c.state, c.data.All(), &workspace, &next);
    ASSERT_EQ(result.not_finite, NotFinite::kNothing);
    ASSERT_NEAR(result.loss.mean(), expected.loss, 1e-10 * std::max(1.0, expected.loss));
    ASSERT_NEAR(result.loss.weight, expected.weight, 1e-10);
    ASSERT_NEAR(result.learning_rate, rate, 1e-15);
    std::swap(*c.state, next);
    ASSERT_EQ(c.state->step, step);
    ASSERT_EQ(c.state->optimizer_step, step);
    if (step % 10 != 0) continue;  // an epoch, as ReduceOnPlateau sees it
    reference::Measure(optimizer, expected.loss, &reference_optimizer);
    c.state->plateau =
        AfterMeasurement(optimizer, c.state->optimizer_step, c.state->plateau, result.loss.mean());
  }
  EXPECT_LE(
      LargestDifference(ToDoubles(c.state->values, 0, c.network->parameter_count()), parameters),
      1e-9);
}

TEST(StepTest, TrajectoriesFollowTheReference) {
  for (const OptimizerSpec& optimizer : Optimizers()) {
    for (Loss loss : kLosses) {
      SCOPED_TRACE(testing::Message()
                   << "optimizer " << static_cast<int>(optimizer.kind) << " momentum "
                   << optimizer.momentum << " loss " << static_cast<int>(loss));
      CaseOptions options;
      options.optimizer = optimizer;
      options.loss.kind = loss;
      options.wanted = Wanted::kTargets;
      ExpectFollows(options, 31, 200);
    }
  }
}

TEST(StepTest, SchedulesPenaltiesAndClippingFollowTheReference) {
  using Change = void (*)(OptimizerSpec*);
  const Change changes[] = {
      [](OptimizerSpec* o) { o->l1 = 0.01; },
      [](OptimizerSpec* o) { o->clipping = Clipping::kNorm, o->clip = 0.05; },
      [](OptimizerSpec* o) { o->clipping = Clipping::kValue, o->clip = 0.01; },
      [](OptimizerSpec* o) { o->l1 = 0.02, o->clipping = Clipping::kNorm, o->clip = 0.1; },
      [](OptimizerSpec* o) {
        o->schedule.kind = ScheduleKind::kStep, o->schedule.step_size = 7, o->schedule.gamma = 0.5;
      },
      [](OptimizerSpec* o) {
        o->schedule.kind = ScheduleKind::kExponential, o->schedule.gamma = 0.97;
      },
      [](OptimizerSpec* o) {
        o->schedule.kind = ScheduleKind::kCosine, o->schedule.total_steps = 60;
        o->schedule.min_learning_rate = 0.001, o->schedule.warmup_steps = 20;
      },
      [](OptimizerSpec* o) {
        o->schedule.kind = ScheduleKind::kReduceOnPlateau, o->schedule.patience = 1;
        o->schedule.threshold = 0.05, o->schedule.cooldown = 1, o->schedule.factor = 0.5;
        o->schedule.min_learning_rate = 0.002, o->schedule.warmup_steps = 15;
      },
  };
  for (size_t i = 0; i < std::size(changes); ++i) {
    for (OptimizerSpec optimizer : Optimizers()) {
      SCOPED_TRACE(testing::Message()
                   << "change " << i << " of optimizer " << static_cast<int>(optimizer.kind));
      changes[i](&optimizer);
      CaseOptions options;
      options.optimizer = optimizer;
      options.dropout = i % 2 == 0 ? 0.3 : 0;
      options.standardize = i % 3 == 0;
      options.sample_weights = i % 3 == 1;
      ExpectFollows(options, static_cast<uint32_t>(40 + i), 100);
    }
  }
}

double Norm(const Buffer& values) {
  double sum = 0;
  for (int64_t i = 0; i < values.count(); ++i) sum += values.Get(i) * values.Get(i);
  return std::sqrt(sum);
}

// The two halves of a step give the same bits as the step. The mean of two replicas' gradients,
// weighted by the weights of their batches, is the gradient of the joined batch.
TEST(StepTest, TwoHalvesMakeAStepAndReplicasAgree) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    CaseOptions options = RandomOptions(seed, DataType::kFloat64);
    options.optimizer = Optimizers()[seed % Optimizers().size()];
    options.optimizer.l1 = 0.01;
    options.optimizer.clipping = Clipping::kNorm;
    options.optimizer.clip = 0.5;
    options.rows += 1;
    Case c = MakeCase(options, seed);
    Workspace workspace;
    State whole(*c.network), halves(*c.network), replicas(*c.network);
    const StepResult step = TrainStep(*c.network, *c.state, c.data.All(), &workspace, &whole);
    const StepResult computed = ComputeGradients(*c.network, *c.state, c.data.All(), &workspace);
    EXPECT_EQ(computed.loss.mean(), step.loss.mean());
    const int64_t P = c.network->parameter_count();
    Buffer gradients(DataType::kFloat64, P);
    std::memcpy(gradients.bytes(), workspace.gradients<double>(), gradients.size_bytes());
    const StepResult applied = ApplyStep(*c.network, *c.state, gradients, &workspace, &halves);
    EXPECT_EQ(applied.gradient_norm, step.gradient_norm);
    EXPECT_EQ(ToDoubles(halves.values, 0, P), ToDoubles(whole.values, 0, P));
    EXPECT_EQ(halves.step, whole.step);

    if (options.dropout > 0)
      continue;  // the masks depend on the positions of the rows in the batch
    const int64_t cut = c.data.rows / 2;
    std::vector<double> sum(static_cast<size_t>(P), 0);
    double weight = 0;
    for (const BatchView& part : {c.data.View(0, cut), c.data.View(cut, c.data.rows - cut)}) {
      const StepResult half = ComputeGradients(*c.network, *c.state, part, &workspace);
      weight += half.loss.weight;
      for (int64_t i = 0; i < P; ++i) {
        sum[static_cast<size_t>(i)] += half.loss.weight * workspace.gradients<double>()[i];
      }
    }
    for (int64_t i = 0; i < P; ++i) gradients.Set(i, sum[static_cast<size_t>(i)] / weight);
    ApplyStep(*c.network, *c.state, gradients, &workspace, &replicas);
    // Compared by the norm of the gradient, because adaptive optimisers magnify rounding errors
    // near 0.
    EXPECT_NEAR(Norm(gradients), computed.gradient_norm,
                1e-12 * std::max(1.0, computed.gradient_norm));
    if (options.optimizer.kind == OptimizerKind::kSgd) {
      EXPECT_LE(LargestDifference(ToDoubles(replicas.values, 0, P), ToDoubles(whole.values, 0, P)),
                1e-12);
    }
  }
}

TEST(StepTest, TheStateBeforeTheStepDoesNotChange) {
  const Case c = MakeCase(CaseOptions{}, 4);
  const auto before = ToDoubles(c.state->values, 0, c.state->values.count());
  Workspace workspace;
  State next(*c.network);
  TrainStep(*c.network, *c.state, c.data.All(), &workspace, &next);
  EXPECT_EQ(ToDoubles(c.state->values, 0, c.state->values.count()), before);
  EXPECT_NE(ToDoubles(next.values, 0, next.values.count()), before);
  EXPECT_EQ(c.state->step, 0);
}

// Every way in which numbers become infinite or NaN is detected at the step where it happens.
TEST(StepTest, TheFirstNonFiniteResultIsNamed) {
  CaseOptions options;
  options.data_type = DataType::kFloat32;
  options.loss.kind = Loss::kMeanSquaredError;
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
    options.loss.kind = loss;
    options.wanted = Wanted::kTargets;
    options.units = {5, loss == Loss::kBinaryCrossEntropy ? 1 : 3};
    const Case c = MakeCase(options, 8);
    const auto expected = c.Reference();
    const auto n = static_cast<size_t>(c.data.rows);
    const auto k = static_cast<size_t>(c.network->outputs());
    Workspace workspace;
    const LossResult evaluated = Evaluate(*c.network, *c.state, c.data.All(), &workspace);
    EXPECT_NEAR(evaluated.mean(), expected.loss, 1e-12);
    EXPECT_EQ(evaluated.correct, expected.correct);
    std::vector<double> logits(n * k), probabilities(n * k);
    std::vector<int32_t> classes(n);
    PredictTargets out;
    out.logits = reinterpret_cast<std::byte*>(logits.data());
    if (Classifies(loss)) {
      out.probabilities = reinterpret_cast<std::byte*>(probabilities.data());
      out.classes = classes.data();
    }
    Predict(*c.network, *c.state, c.data.All(), &workspace, out);
    for (size_t i = 0; i < n; ++i) {
      const auto p = reference::Probabilities(loss, expected.logits[i]);
      for (size_t j = 0; j < k; ++j) {
        EXPECT_NEAR(logits[i * k + j], expected.logits[i][j], 1e-12);
        if (Classifies(loss)) EXPECT_NEAR(probabilities[i * k + j], p[j], 1e-12);
      }
      if (loss == Loss::kBinaryCrossEntropy) EXPECT_EQ(classes[i], p[0] > 0.5 ? 1 : 0);
      if (loss == Loss::kSoftmaxCrossEntropy) {
        EXPECT_EQ(classes[i], std::max_element(p.begin(), p.end()) - p.begin());
      }
    }
  }
}

// The original exercise of the project: 3,000 full-batch iterations on 200 points.
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
    EXPECT_GE(result.loss.accuracy(), 0.90);
    EXPECT_LT(result.loss.mean(), 0.25);
  }
}

}  // namespace
}  // namespace backprop::engine
