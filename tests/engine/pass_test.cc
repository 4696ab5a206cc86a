// Forward and backward, held to the reference.
#include "server/engine/pass.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

// What the engine makes of a case.
struct Outcome {
  double loss;
  int correct;
  std::vector<double> logits;
  std::vector<double> gradients;
};

template <class T>
Outcome Compute(const Case& c) {
  Workspace workspace;
  workspace.Prepare(*c.network, c.data.rows, PassKind::kForwardBackward);
  const LossResult loss =
      ForwardBackward<T>(*c.network, c.state->values.as<T>().data(), c.data.All(), &workspace);
  const T* z = Outputs<T>(*c.network, &workspace);
  const T* g = workspace.gradients<T>();
  return {loss.sum / static_cast<double>(c.data.rows), static_cast<int>(loss.correct),
          std::vector<double>(z, z + c.data.rows * c.network->outputs()),
          std::vector<double>(g, g + c.network->parameter_count())};
}

std::vector<double> Flat(const reference::Matrix& matrix) {
  std::vector<double> flat;
  for (const auto& row : matrix) flat.insert(flat.end(), row.begin(), row.end());
  return flat;
}

double Largest(const std::vector<double>& values) {
  double largest = 1;
  for (double v : values) largest = std::max(largest, std::abs(v));
  return largest;
}

// `tolerance` is relative to the largest number of its kind.
void ExpectAgrees(const Case& c, const Outcome& outcome, double tolerance) {
  const auto expected = reference::ForwardBackward(c.network->spec(), c.layers, c.batch);
  const auto logits = Flat(expected.logits);
  const auto gradients = Flatten(expected.grads);
  EXPECT_NEAR(outcome.loss, expected.loss, tolerance * std::max(1.0, std::abs(expected.loss)));
  EXPECT_LE(LargestDifference(outcome.logits, logits), tolerance * Largest(logits));
  EXPECT_LE(LargestDifference(outcome.gradients, gradients), tolerance * Largest(gradients));
  if (c.network->spec().loss != Loss::kMeanSquaredError && tolerance < 1e-8) {
    EXPECT_EQ(outcome.correct, expected.correct);
  }
}

RC_GTEST_PROP(PassTest, RandomNetworksAgreeWithTheReferenceInFloat64, (uint32_t seed)) {
  const Case c = MakeCase(RandomOptions(seed, DataType::kFloat64), seed);
  ExpectAgrees(c, Compute<double>(c), 1e-12);
  RC_ASSERT(!testing::Test::HasFailure());
}

TEST(PassTest, RandomNetworksAgreeWithTheReferenceInFloat32) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    const Case c = MakeCase(RandomOptions(seed, DataType::kFloat32), seed);
    ExpectAgrees(c, Compute<float>(c), 5e-6);
  }
}

TEST(PassTest, EveryActivationAndLossAgrees) {
  for (Loss loss : kLosses) {
    for (Activation activation : kActivations) {
      for (Wanted wanted : {Wanted::kClasses, Wanted::kTargets}) {
        CaseOptions options;
        options.loss = loss;
        options.wanted = wanted;
        options.hidden = {activation, activation};
        options.units = {6, 5, 3};
        if (wanted == Wanted::kClasses && loss == Loss::kMeanSquaredError) continue;
        if (wanted == Wanted::kClasses && loss == Loss::kBinaryCrossEntropy)
          options.units = {6, 5, 1};
        SCOPED_TRACE(testing::Message() << "loss " << static_cast<int>(loss) << " activation "
                                        << static_cast<int>(activation));
        const Case c = MakeCase(options, 11);
        ExpectAgrees(c, Compute<double>(c), 1e-13);
      }
    }
  }
}

// Square layers, so that a missing transpose is not caught by shapes alone.
TEST(PassTest, SquareLayersAgree) {
  CaseOptions options;
  options.inputs = 4;
  options.hidden = {Activation::kRelu, Activation::kTanh};
  options.units = {4, 4, 4};
  options.rows = 4;
  const Case c = MakeCase(options, 5);
  ExpectAgrees(c, Compute<double>(c), 1e-13);
}

TEST(PassTest, TheSmallestShapesAgree) {
  struct Shape {
    int64_t rows, inputs;
    std::vector<int64_t> units;
  };
  for (const Shape& shape : {Shape{1, 1, {1, 2}}, Shape{1, 3, {1, 2}}, Shape{2, 1, {7, 3}},
                             Shape{1, 1, {1, 1}}, Shape{9, 2, {1, 1000}}}) {
    CaseOptions options;
    options.rows = shape.rows;
    options.inputs = shape.inputs;
    options.units = shape.units;
    SCOPED_TRACE(shape.units.back());
    const Case c = MakeCase(options, 3);
    ExpectAgrees(c, Compute<double>(c), 1e-12);
  }
}

// The derivative of ReLU at 0 is 0: with zero weights and bias every z is exactly 0.
TEST(PassTest, ReluHasNoGradientAtZero) {
  CaseOptions options;
  options.hidden = {Activation::kRelu};
  Case c = MakeCase(options, 1);
  const LayerPlan& first = c.network->layers()[0];
  for (int64_t i = 0; i < first.inputs * first.units + first.units; ++i) c.state->values.Set(i, 0);
  const Outcome outcome = Compute<double>(c);
  for (int64_t i = 0; i < first.inputs * first.units + first.units; ++i) {
    EXPECT_EQ(outcome.gradients[static_cast<size_t>(i)], 0);
  }
}

TEST(PassTest, FiniteDifferencesProveEveryGradient) {
  double worst = 0;
  for (Loss loss : kLosses) {
    for (Activation activation : kActivations) {
      CaseOptions options;
      options.loss = loss;
      options.wanted = Wanted::kTargets;
      options.hidden = {activation};
      Case c = MakeCase(options, 21);
      const Outcome outcome = Compute<double>(c);
      for (int64_t i = 0; i < c.network->parameter_count(); ++i) {
        const double p = c.state->values.Get(i);
        const double h = 1e-6;
        c.state->values.Set(i, p + h);
        const double plus = Compute<double>(c).loss;
        c.state->values.Set(i, p - h);
        const double minus = Compute<double>(c).loss;
        c.state->values.Set(i, p);
        const double error =
            std::abs((plus - minus) / (2 * h) - outcome.gradients[static_cast<size_t>(i)]);
        worst = std::max(worst, error);
        ASSERT_LE(error, 1e-4) << "parameter " << i;
      }
    }
  }
  std::cout << "largest |analytic − numeric| over every parameter: " << worst << "\n";
  EXPECT_LE(worst, 1e-8) << "what central differences in float64 really reach";
}

TEST(PassTest, BackwardLeavesParametersAndDataAlone) {
  Case c = MakeCase(CaseOptions{}, 2);
  const auto parameters = ToDoubles(c.state->values, 0, c.state->values.count());
  const auto inputs = ToDoubles(c.data.inputs, 0, c.data.inputs.count());
  const Outcome first = Compute<double>(c);
  EXPECT_EQ(ToDoubles(c.state->values, 0, c.state->values.count()), parameters);
  EXPECT_EQ(ToDoubles(c.data.inputs, 0, c.data.inputs.count()), inputs);
  EXPECT_EQ(Compute<double>(c).gradients, first.gradients);
}

}  // namespace
}  // namespace backprop::engine
