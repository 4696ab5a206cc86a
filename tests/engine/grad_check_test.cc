#include "server/engine/grad_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>

#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

std::unique_ptr<GradChecker> Done(const Network& network, const State& state, const Dataset& data,
                                  const GradCheckOptions& options = {}) {
  auto checker = std::make_unique<GradChecker>(network, state, data, options);
  while (checker->Advance(7)) {
  }
  return checker;
}

GradCheckReport Check(const Case& c, const GradCheckOptions& options = {}) {
  return Done(*c.network, *c.state, c.data, options)->report();
}

TEST(GradCheckTest, PassesForEveryActivationLossAndPrecision) {
  for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    for (Loss loss : kLosses) {
      for (Activation activation : kActivations) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(type) << static_cast<int>(loss)
                                        << static_cast<int>(activation));
        CaseOptions options;
        options.data_type = type;
        options.loss.kind = loss;
        options.wanted = Wanted::kTargets;
        options.hidden = {activation};
        const GradCheckReport report = Check(MakeCase(options, 17));
        EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
        EXPECT_EQ(report.explanation, "");
        EXPECT_FALSE(report.sampled);
        EXPECT_LT(report.max_relative_error, 1e-9);
        for (const TensorGradCheck& check : report.tensors) {
          EXPECT_EQ(check.checked, check.tensor.size());
          EXPECT_EQ(check.set_aside + check.unresolved + check.not_sampled, 0);
          EXPECT_GE(check.worst, 0);
          EXPECT_EQ(check.kernel_max_relative_error, 0);
          EXPECT_LT(check.kernel_max_bound_ratio, 1);
        }
      }
    }
  }
}

TEST(GradCheckTest, ReportsTheReferenceLoss) {
  const Case c = MakeCase(CaseOptions{}, 3);
  EXPECT_NEAR(Check(c).loss, c.Reference().loss, 1e-12);
}

TEST(GradCheckTest, EntriesOnAKinkAreSetAsideAndCounted) {
  CaseOptions options;
  options.hidden = {Activation::kRelu};
  Case c = MakeCase(options, 3);
  const LayerPlan& first = c.network->layers()[0];
  for (int64_t i = 0; i < first.inputs; ++i) {
    c.state->values.Set(first.weights_offset + i * first.units, 0);  // unit 0: z = b = 0
  }
  c.state->values.Set(first.bias_offset, 0);
  const GradCheckReport report = Check(c);
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  EXPECT_EQ(report.tensors[0].set_aside, first.inputs);
  EXPECT_EQ(report.tensors[1].set_aside, 1);
  EXPECT_EQ(report.tensors[2].set_aside, 0);
}

// A kink at a distance of 1e-13 is avoided by a smaller step.
TEST(GradCheckTest, AStepIsSmallerThanTheDistanceToAKink) {
  CaseOptions options;
  options.hidden = {Activation::kRelu};
  options.rows = 1;
  Case c = MakeCase(options, 3);
  const LayerPlan& first = c.network->layers()[0];
  double z = 0;
  for (int64_t i = 0; i < first.inputs; ++i) {
    z += c.data.inputs.Get(i) * c.state->values.Get(first.weights_offset + i * first.units);
  }
  c.state->values.Set(first.bias_offset, 1e-13 - z);
  const GradCheckReport report = Check(c);
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  EXPECT_EQ(report.tensors[0].set_aside, 0);
}

TEST(GradCheckTest, LargeTensorsAreSampledReproduciblyAndReportedAsSampled) {
  const Case c = MakeCase(CaseOptions{}, 3);
  GradCheckOptions options;
  options.max_entries_per_tensor = 5;
  const GradCheckReport report = Check(c, options);
  EXPECT_EQ(report.verdict, Verdict::kPassed);
  EXPECT_TRUE(report.sampled);
  EXPECT_EQ(report.tensors[0].checked, 5);
  EXPECT_EQ(report.tensors[0].not_sampled, 15);
  EXPECT_EQ(report.tensors[1].checked, 5);
  EXPECT_EQ(report.tensors[1].not_sampled, 0);
  EXPECT_EQ(Check(c, options).tensors[0].worst, report.tensors[0].worst);
  EXPECT_EQ(Check(c, options).max_relative_error, report.max_relative_error);
}

// A network of one feature and layers of one unit each.
struct Small {
  DataType type = DataType::kFloat64;
  std::vector<Activation> activations;
  int64_t outputs = 1;
  Loss loss = Loss::kMeanSquaredError;
  std::vector<double> parameters;
  double x = 1;
  double y = 0;  // the target, or the label of a softmax
};

GradCheckReport CheckSmall(const Small& small) {
  NetworkSpec spec;
  spec.data_type = small.type;
  spec.loss.kind = small.loss;
  for (const Activation activation : small.activations) {
    spec.layers.emplace_back().activation = activation;
  }
  spec.layers.back().units = small.outputs;
  const Network network(spec);
  State state(network);
  EXPECT_EQ(network.parameter_count(), static_cast<int64_t>(small.parameters.size()));
  for (size_t i = 0; i < small.parameters.size(); ++i) {
    state.values.Set(static_cast<int64_t>(i), small.parameters[i]);
  }
  Dataset data;
  data.rows = data.inputs_per_row = 1;
  data.inputs = Buffer(small.type, 1);
  data.inputs.Set(0, small.x);
  if (small.loss == Loss::kSoftmaxCrossEntropy) {
    data.classes = {static_cast<int32_t>(small.y)};
  } else {
    data.targets_per_row = 1;
    data.targets = Buffer(small.type, 1);
    data.targets.Set(0, small.y);
  }
  return Done(network, state, data)->report();
}

TEST(GradCheckTest, TheScaleOfInputsDoesNotMatter) {
  const GradCheckReport report =
      CheckSmall({.activations = {Activation::kTanh, Activation::kIdentity},
                  .parameters = {1e-5, 0, 1, 0},
                  .x = 1e5});
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  EXPECT_LT(report.max_relative_error, 1e-12);
}

// p − 1 cancels in float32: the kernels' gradient is off by 5e-3 of itself, and right.
TEST(GradCheckTest, CancellationInTheKernelsIsNotAnError) {
  const GradCheckReport report = CheckSmall({.type = DataType::kFloat32,
                                             .activations = {Activation::kIdentity},
                                             .outputs = 2,
                                             .loss = Loss::kSoftmaxCrossEntropy,
                                             .parameters = {0, 1.2, 0, 0},
                                             .x = 10,
                                             .y = 1});
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  const GradCheckReport residual = CheckSmall({.type = DataType::kFloat32,
                                               .activations = {Activation::kIdentity},
                                               .parameters = {1000.1, 0},
                                               .x = 0.3,
                                               .y = 300.033});
  EXPECT_EQ(residual.verdict, Verdict::kPassed) << residual.explanation;
}

TEST(GradCheckTest, ALargeLossDoesNotHideAGradient) {
  const GradCheckReport report =
      CheckSmall({.activations = {Activation::kIdentity}, .parameters = {1, 0}, .y = 1e9});
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  EXPECT_NEAR(report.tensors[0].worst_numeric, 2 * (1 - 1e9), 1e-3);
}

TEST(GradCheckTest, WhereEverythingLiesOnAKinkNothingIsProved) {
  const GradCheckReport relu =
      CheckSmall({.activations = {Activation::kRelu}, .parameters = {0, 0}, .y = 5});
  EXPECT_EQ(relu.verdict, Verdict::kInconclusive);
  EXPECT_EQ(relu.tensors[0].checked, 0);
  EXPECT_NE(relu.explanation.find("layers[0].weights: every entry lies on a kink"),
            std::string::npos)
      << relu.explanation;
  const GradCheckReport absolute = CheckSmall({.activations = {Activation::kIdentity},
                                               .loss = Loss::kMeanAbsoluteError,
                                               .parameters = {0, 0}});
  EXPECT_EQ(absolute.verdict, Verdict::kInconclusive);

  NetworkSpec zeros = XorSpec(1, DataType::kFloat32);
  const Network network(zeros);
  const GradCheckReport report =
      Done(network, *EmptyState(network), XorData(20, 1, DataType::kFloat32))->report();
  EXPECT_EQ(report.verdict, Verdict::kInconclusive);
  EXPECT_EQ(report.tensors[0].verdict, Verdict::kInconclusive);
  EXPECT_EQ(report.tensors[2].verdict, Verdict::kPassed);  // its gradient is 0, provably
  EXPECT_EQ(report.tensors[3].verdict, Verdict::kPassed);
}

// tanh 17: 1 − a² has lost its digits in float64. Scaled down, the same tensor is proved.
TEST(GradCheckTest, ASaturatedUnitIsProvedOnAScaledCopy) {
  const Small small = {.activations = {Activation::kTanh, Activation::kIdentity},
                       .parameters = {17, 0, 1, 0},
                       .y = 0.5};
  const GradCheckReport report = CheckSmall(small);
  EXPECT_EQ(report.verdict, Verdict::kPassed) << report.explanation;
  EXPECT_EQ(report.tensors[0].unresolved, 1);
  EXPECT_EQ(report.tensors[2].unresolved, 0);
}

TEST(GradCheckTest, NumbersNearTheEndOfTheRangeProveNothing) {
  const GradCheckReport report = CheckSmall({.type = DataType::kFloat32,
                                             .activations = {Activation::kIdentity},
                                             .parameters = {1e19, 0},
                                             .x = 1e19});
  EXPECT_EQ(report.verdict, Verdict::kInconclusive);
  EXPECT_NE(report.explanation.find("range of float32"), std::string::npos) << report.explanation;
}

// Every way in which a gradient is wrong ends in FAILED, at the right place.
TEST(GradCheckTest, WrongGradientsFail) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    CaseOptions options;
    options.data_type = type;
    const Case c = MakeCase(options, 3);
    const auto checker = Done(*c.network, *c.state, c.data);
    ASSERT_EQ(checker->report().verdict, Verdict::kPassed);
    const TensorInfo tensor = c.network->tensors()[2];
    const auto at = static_cast<size_t>(tensor.offset + 4);
    const std::pair<const char*, std::function<void(double&)>> kBugs[] = {
        {"factor", [](double& g) { g *= 1.001; }},
        {"sign", [](double& g) { g = -g; }},
        {"missing", [](double& g) { g = 0; }},
        {"NaN", [](double& g) { g = std::nan(""); }}};
    for (const auto& [name, bug] : kBugs) {
      SCOPED_TRACE(name);
      const GradCheckReport report =
          checker->Judge([&, &bug = bug](std::vector<double>* g) { bug((*g)[at]); });
      EXPECT_EQ(report.verdict, Verdict::kFailed);
      EXPECT_EQ(report.tensors[2].verdict, Verdict::kFailed);
      EXPECT_EQ(report.tensors[2].worst, 4);
      EXPECT_EQ(report.tensors[3].verdict, Verdict::kPassed);
      EXPECT_NE(report.explanation.find("layers[1].weights[1, 1]: the gradient is"),
                std::string::npos)
          << report.explanation;
    }
  }
}

// A bug in the kernels of the model's own precision alone.
TEST(GradCheckTest, WrongKernelsFail) {
  CaseOptions options;
  options.data_type = DataType::kFloat32;
  const Case c = MakeCase(options, 3);
  const auto checker = Done(*c.network, *c.state, c.data);
  int calls = 0;  // for each tensor first float64, then the kernels
  const GradCheckReport report = checker->Judge([&](std::vector<double>* g) {
    if (++calls % 2 == 0) (*g)[0] *= 1.01;
  });
  EXPECT_EQ(report.verdict, Verdict::kFailed);
  EXPECT_GT(report.tensors[0].kernel_max_bound_ratio, 1);
  EXPECT_NE(report.explanation.find("the training kernels' gradient"), std::string::npos);
}

TEST(GradCheckTest, ATighterToleranceThanRoundingAllowsProvesNothing) {
  GradCheckOptions options;
  options.tolerance = 1e-18;
  EXPECT_EQ(Check(MakeCase(CaseOptions{}, 3), options).verdict, Verdict::kInconclusive);
}

}  // namespace
}  // namespace backprop::engine
