#include "server/engine/standardize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

TEST(StandardizeTest, FitAgreesWithTheReference) {
  for (bool weighted : {false, true}) {
    CaseOptions options;
    options.rows = 40;
    options.sample_weights = weighted;
    const Case c = MakeCase(options, 3);
    const auto fitted = FitStandardization(c.data);
    const auto expected = reference::FitScaler(c.batch);
    EXPECT_LE(LargestDifference(fitted->mean, expected.mean), 1e-14);
    EXPECT_LE(LargestDifference(fitted->std, expected.std), 1e-14);
  }
}

Dataset Column(const std::vector<double>& values) {
  Dataset data;
  data.rows = static_cast<int64_t>(values.size());
  data.inputs_per_row = 1;
  data.inputs = Buffer(DataType::kFloat64, data.rows);
  for (size_t i = 0; i < values.size(); ++i) data.inputs.Set(static_cast<int64_t>(i), values[i]);
  return data;
}

TEST(StandardizeTest, TheDeviationDividesByNAndAConstantFeatureGetsOne) {
  EXPECT_DOUBLE_EQ(FitStandardization(Column({1, 3}))->std[0], 1);
  EXPECT_DOUBLE_EQ(FitStandardization(Column({0, 0, 3}))->std[0], std::sqrt(2.0));
  for (double constant : {0.0, 0.1, -1e9, 1e-300}) {
    const auto fitted = FitStandardization(Column(std::vector<double>(7, constant)));
    EXPECT_EQ(fitted->std[0], 1) << constant;
    EXPECT_NEAR(fitted->mean[0], constant, std::abs(constant) * 1e-15);
  }
  EXPECT_NE(FitStandardization(Column({1e-9, -1e-9}))->std[0], 1) << "small is not constant";
}

TEST(StandardizeTest, AnOverflowIsNotFitted) {
  EXPECT_EQ(FitStandardization(Column({0, 1e300})), nullptr) << "the variance";
  EXPECT_EQ(FitStandardization(Column({1.7e308, 1.7e308})), nullptr) << "the mean";
  EXPECT_NE(FitStandardization(Column({0, 1e150})), nullptr);
}

TEST(StandardizeTest, ARowOfWeightZeroDoesNotCount) {
  Dataset data = Column({1, 3, 1000});
  data.sample_weights = Buffer(DataType::kFloat64, 3);
  data.sample_weights.Set(0, 1);
  data.sample_weights.Set(1, 1);
  const auto fitted = FitStandardization(data);
  EXPECT_EQ(fitted->mean[0], 2);
  EXPECT_EQ(fitted->std[0], 1);
}

TEST(StandardizeTest, ApplyingItCentersAndScales) {
  const Standardization given = {{1, 10}, {2, 5}};
  const float x[] = {3, 10, 1, 0};
  float out[4];
  ApplyStandardization(given, x, 2, out);
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[1], 0);
  EXPECT_EQ(out[2], 0);
  EXPECT_EQ(out[3], -2);
}

}  // namespace
}  // namespace backprop::engine
