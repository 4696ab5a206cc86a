#include "server/engine/grad_check.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

GradCheckReport Check(const Case& c, const GradCheckOptions& options = {}) {
  GradChecker checker(*c.network, *c.state, c.data, options);
  while (checker.Advance(7)) {
  }
  return checker.report();
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
        EXPECT_TRUE(report.passed);
        EXPECT_FALSE(report.sampled);
        EXPECT_LT(report.max_relative_error, 1e-4);
        for (const TensorGradCheck& check : report.tensors) {
          EXPECT_EQ(check.checked + check.set_aside, check.tensor.size());
          EXPECT_GE(check.worst, 0);
          EXPECT_LT(check.kernel_max_relative_error, type == DataType::kFloat32 ? 1e-5 : 1e-14);
        }
      }
    }
  }
}

TEST(GradCheckTest, ReportsTheReferenceLoss) {
  const Case c = MakeCase(CaseOptions{}, 3);
  EXPECT_NEAR(Check(c).loss, c.Reference().loss, 1e-12);
}

TEST(GradCheckTest, EntriesAcrossAKinkAreSetAsideAndCounted) {
  CaseOptions options;
  options.hidden = {Activation::kRelu};
  Case c = MakeCase(options, 3);
  const LayerPlan& first = c.network->layers()[0];
  for (int64_t i = 0; i < first.inputs; ++i) {
    c.state->values.Set(first.weights_offset + i * first.units, 0);  // unit 0: z = b = 0
  }
  c.state->values.Set(first.bias_offset, 0);
  const GradCheckReport report = Check(c);
  EXPECT_TRUE(report.passed);
  EXPECT_EQ(report.tensors[0].set_aside, first.inputs);
  EXPECT_EQ(report.tensors[1].set_aside, 1);
  EXPECT_EQ(report.tensors[2].set_aside, 0);
}

TEST(GradCheckTest, LargeTensorsAreSampledReproduciblyAndItSaysSo) {
  const Case c = MakeCase(CaseOptions{}, 3);
  GradCheckOptions options;
  options.max_entries_per_tensor = 5;
  const GradCheckReport report = Check(c, options);
  EXPECT_TRUE(report.passed);
  EXPECT_TRUE(report.sampled);
  EXPECT_EQ(report.tensors[0].checked, 5);
  EXPECT_EQ(report.tensors[0].not_sampled, 15);
  EXPECT_EQ(report.tensors[1].checked, 5);
  EXPECT_EQ(report.tensors[1].not_sampled, 0);
  EXPECT_EQ(Check(c, options).tensors[0].worst, report.tensors[0].worst);
  EXPECT_EQ(Check(c, options).max_relative_error, report.max_relative_error);
}

// A step so coarse that the difference is no derivative: the check must be able to fail.
TEST(GradCheckTest, FailsWhenTheDifferenceDisagrees) {
  GradCheckOptions options;
  options.epsilon = 1;
  const GradCheckReport report = Check(MakeCase(CaseOptions{}, 3), options);
  EXPECT_FALSE(report.passed);
  EXPECT_GT(report.max_relative_error, 1e-4);
}

TEST(GradCheckTest, FailsWhenTheKernelsAreLessExactThanAsked) {
  CaseOptions options;
  options.data_type = DataType::kFloat32;
  GradCheckOptions check;
  check.kernel_tolerance = 1e-12;
  EXPECT_FALSE(Check(MakeCase(options, 3), check).passed);
}

TEST(GradCheckTest, ExtremeLogitsStillGiveAVerdict) {
  CaseOptions options;
  options.scale = 1000;
  options.hidden = {Activation::kIdentity};
  const GradCheckReport report = Check(MakeCase(options, 3));
  EXPECT_TRUE(std::isfinite(report.loss));
  EXPECT_TRUE(std::isfinite(report.max_relative_error));
}

}  // namespace
}  // namespace backprop::engine
