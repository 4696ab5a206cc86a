// The forward and the backward pass, compared with the reference.
#include "server/engine/pass.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <optional>

#include "tests/engine/cases.h"
#include "tests/engine/error_bound.h"

namespace backprop::engine {
namespace {

// The engine's results for a case.
struct Outcome {
  double loss;
  double correct;
  std::vector<double> logits;
  std::vector<double> gradients;
};

template <class T>
Outcome Compute(const Case& c, std::optional<int64_t> dropout_step = std::nullopt) {
  Workspace workspace;
  workspace.Prepare(*c.network, c.data.rows, PassKind::kForwardBackward);
  const LossResult loss =
      ForwardBackward(ModelOf<T>(*c.network, *c.state), c.data.All(), dropout_step, &workspace);
  const T* z = Outputs<T>(*c.network, c.data.rows, &workspace);
  const T* g = workspace.gradients<T>();
  return {loss.mean(), loss.correct, std::vector<double>(z, z + c.data.rows * c.network->outputs()),
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

// In float64, relative to the largest number of its kind.
void ExpectAgrees(const Case& c, const Outcome& outcome, double tolerance,
                  std::optional<uint64_t> dropout_step = std::nullopt) {
  const auto expected = c.Reference(dropout_step);
  const auto logits = Flat(expected.logits);
  const auto gradients = Flatten(expected.grads);
  EXPECT_NEAR(outcome.loss, expected.loss, tolerance * std::max(1.0, std::abs(expected.loss)));
  EXPECT_LE(LargestDifference(outcome.logits, logits), tolerance * Largest(logits));
  EXPECT_LE(LargestDifference(outcome.gradients, gradients), tolerance * Largest(gradients));
  EXPECT_NEAR(outcome.correct, expected.correct, 1e-9);
}

// Largest |a − b| / bound; every |a − b| counts as 0 below the smallest normal number of float32.
double LargestShare(const std::vector<double>& a, const std::vector<double>& b,
                    const std::vector<double>& bound) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (difference < 1.2e-38) continue;
    const double share = difference / bound[i];
    if (!(share <= largest)) largest = share;  // keeps NaN
  }
  return largest;
}

// In float32, as a share of the bound that rounding-error analysis gives.
double ShareOfBound(const Case& c, const Outcome& outcome, std::optional<uint64_t> dropout_step) {
  const auto expected = c.Reference(dropout_step);
  const auto bound = reference::BoundOf(c.network->spec(), c.layers, c.batch, expected,
                                        c.scaler.has_value(), 0x1p-24);
  return std::max({std::abs(outcome.loss - expected.loss) / bound.loss,
                   LargestShare(outcome.logits, Flat(expected.logits), Flat(bound.logits)),
                   LargestShare(outcome.gradients, Flatten(expected.grads), Flatten(bound.grads))});
}

// Random networks, losses, weights, smoothing, standardisation and dropout.
RC_GTEST_PROP(PassTest, RandomNetworksAgreeWithTheReferenceInFloat64, (uint32_t seed)) {
  const CaseOptions options = RandomOptions(seed, DataType::kFloat64);
  const Case c = MakeCase(options, seed);
  const uint32_t step = seed % 100;
  ExpectAgrees(c, Compute<double>(c, step), 1e-12, step);
  ExpectAgrees(c, Compute<double>(c), 1e-12);
  RC_ASSERT(!testing::Test::HasFailure());
}

TEST(PassTest, RandomNetworksStayWithinTheRoundingErrorBoundInFloat32) {
  double worst = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const Case c = MakeCase(RandomOptions(seed, DataType::kFloat32), seed);
    const double share = ShareOfBound(c, Compute<float>(c, seed), seed);
    EXPECT_LE(share, 1);
    worst = std::max(worst, share);
  }
  std::cout << "largest share of the bound over 400 networks: " << worst << "\n";
  EXPECT_GT(worst, 1e-3) << "a bound far above every error proves nothing";
}

TEST(PassTest, EveryActivationAndLossAgrees) {
  for (Loss loss : kLosses) {
    for (Activation activation : kActivations) {
      for (Wanted wanted : {Wanted::kClasses, Wanted::kTargets}) {
        CaseOptions options;
        options.loss.kind = loss;
        options.wanted = wanted;
        options.hidden = {activation, activation};
        options.units = {6, 5, 3};
        if (wanted == Wanted::kClasses && !Classifies(loss)) continue;
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
      options.loss.kind = loss;
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
  EXPECT_LE(worst, 1e-8) << "the accuracy of central differences in float64";
}

TEST(PassTest, BackwardDoesNotChangeParametersOrData) {
  Case c = MakeCase(CaseOptions{}, 2);
  const auto parameters = ToDoubles(c.state->values, 0, c.state->values.count());
  const auto inputs = ToDoubles(c.data.inputs, 0, c.data.inputs.count());
  const Outcome first = Compute<double>(c);
  EXPECT_EQ(ToDoubles(c.state->values, 0, c.state->values.count()), parameters);
  EXPECT_EQ(ToDoubles(c.data.inputs, 0, c.data.inputs.count()), inputs);
  EXPECT_EQ(Compute<double>(c).gradients, first.gradients);
}

TEST(PassTest, ExtremesAgreeWithTheReference) {
  struct Extreme {
    const char* what;
    int64_t rows, inputs;
    std::vector<int64_t> units;
    double scale;
  };
  for (const Extreme& extreme :
       {Extreme{"logits of 1e4", 5, 3, {2, 3}, 100}, Extreme{"one row", 1, 3, {4, 3}, 1},
        Extreme{"one unit", 6, 1, {1, 1, 2}, 1},
        Extreme{"a thousand classes", 3, 2, {5, 1000}, 1}}) {
    for (Activation activation : kActivations) {
      SCOPED_TRACE(testing::Message() << extreme.what << " " << static_cast<int>(activation));
      CaseOptions options;
      options.rows = extreme.rows;
      options.inputs = extreme.inputs;
      options.units = extreme.units;
      options.hidden.assign(extreme.units.size() - 1, activation);
      options.scale = extreme.scale;
      const Case c = MakeCase(options, 9);
      ExpectAgrees(c, Compute<double>(c), 1e-11);
      options.data_type = DataType::kFloat32;
      const Case single = MakeCase(options, 9);
      EXPECT_LE(ShareOfBound(single, Compute<float>(single), std::nullopt), 1);
    }
  }
}

// Dropped outputs are 0 in the next layer's gradient, retained ones are scaled, and the fraction of
// dropped ones is about the rate.
TEST(PassTest, DropoutDropsItsShareAndIsOffWithoutAStep) {
  CaseOptions options;
  options.units = {40, 3};
  options.rows = 50;
  options.dropout = 0.25;
  const Case c = MakeCase(options, 6);
  Workspace workspace;
  workspace.Prepare(*c.network, c.data.rows, PassKind::kForwardBackward);
  ForwardBackward(ModelOf<double>(*c.network, *c.state), c.data.All(), 3, &workspace);
  int dropped = 0;
  const auto masks = workspace.View<double>(workspace.mask<double>(0), 0);
  const auto kept = workspace.View<double>(workspace.dropped<double>(0), 0);
  const auto a = workspace.View<double>(workspace.a<double>(0), 0);
  for (int64_t i = 0; i < 50; ++i) {
    for (int64_t j = 0; j < 40; ++j) {
      const double mask = masks(i, j);
      EXPECT_TRUE(mask == 0 || mask == 1 / 0.75);
      EXPECT_EQ(kept(i, j), a(i, j) * mask);
      dropped += mask == 0;
    }
  }
  EXPECT_NEAR(dropped, 500, 5 * std::sqrt(2000 * 0.25 * 0.75));
  EXPECT_EQ(Compute<double>(c, 3).gradients, Compute<double>(c, 3).gradients);
  EXPECT_NE(Compute<double>(c, 3).gradients, Compute<double>(c, 4).gradients);
  EXPECT_NE(Compute<double>(c, 3).gradients, Compute<double>(c).gradients);
}

}  // namespace
}  // namespace backprop::engine
