#include "backprop/datasets.h"

#include <gtest/gtest.h>

#include <cmath>

namespace backprop {
namespace {

TEST(DatasetsTest, EverySetHasItsRowsAndClasses) {
  for (const std::string& name : DatasetNames()) {
    SCOPED_TRACE(name);
    const auto batch = MakeDataset(name, {.n = 300});
    ASSERT_TRUE(batch.has_value());
    EXPECT_EQ(batch->inputs.rows(), 300);
    EXPECT_EQ(batch->inputs.cols(), 2);
    ASSERT_EQ(batch->labels.size(), 300U);
    const int classes = name == "blobs" ? 3 : 2;
    std::vector<int> counts(static_cast<size_t>(classes), 0);
    for (int32_t label : batch->labels) ++counts.at(static_cast<size_t>(label));
    for (int count : counts) EXPECT_GT(count, 60);
    for (double x : batch->inputs.ToDoubles()) EXPECT_LT(std::abs(x), 3);
  }
  EXPECT_FALSE(MakeDataset("none").has_value());
}

TEST(DatasetsTest, SeedsAndNoiseDecide) {
  EXPECT_EQ(MakeDataset("xor", {.seed = 1})->inputs, MakeDataset("xor", {.seed = 1})->inputs);
  EXPECT_NE(MakeDataset("xor", {.seed = 1})->inputs, MakeDataset("xor", {.seed = 2})->inputs);
  const auto clean = MakeDataset("xor", {.n = 500, .noise = 0});
  for (int64_t i = 0; i < 500; ++i) {
    EXPECT_EQ(clean->labels[static_cast<size_t>(i)],
              clean->inputs.at(i, 0) * clean->inputs.at(i, 1) > 0 ? 1 : 0);
  }
}

// Compares the numbers, so that the datasets are and stay the same on every machine.
TEST(DatasetsTest, TheFirstPointOfXorIsFixed) {
  const auto batch = MakeDataset("xor", {.noise = 0});
  EXPECT_DOUBLE_EQ(batch->inputs.at(0, 0), -0.68041327325907841);
  EXPECT_DOUBLE_EQ(batch->inputs.at(0, 1), 0.98429041925965755);
}

}  // namespace
}  // namespace backprop
