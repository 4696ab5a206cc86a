#include "server/engine/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/engine/cases.h"
#include "tests/engine/reference_random.h"

namespace backprop::engine {
namespace {

TEST(DataTest, ASplitHoldsOutItsShareAndKeepsTheOrder) {
  Dataset data;
  data.rows = 11;
  data.inputs_per_row = 1;
  data.inputs = Buffer(DataType::kFloat64, 11);
  data.sample_weights = Buffer(DataType::kFloat64, 11);
  for (int32_t i = 0; i < 11; ++i) {
    data.inputs.Set(i, i);
    data.sample_weights.Set(i, 100 + i);
    data.classes.push_back(i);
  }
  const auto rows = std::make_shared<const Dataset>(std::move(data));
  const Split split = SplitForValidation(rows, 0.25, 5, 7);
  ASSERT_EQ(split.validation.rows(), 3) << "⌈0.25·11⌉";
  ASSERT_EQ(split.training.rows(), 8);
  std::set<int32_t> all;
  Dataset training, validation;
  split.training.View(0, 8, &training);
  split.validation.View(0, 3, &validation);
  for (const Dataset* part : {&training, &validation}) {
    EXPECT_TRUE(std::is_sorted(part->classes.begin(), part->classes.end()));
    for (int64_t i = 0; i < part->rows; ++i) {
      const int32_t row = part->classes[static_cast<size_t>(i)];
      EXPECT_EQ(part->inputs.Get(i), row);
      EXPECT_EQ(part->sample_weights.Get(i), 100 + row);
      all.insert(row);
    }
  }
  EXPECT_EQ(all.size(), 11U);
  // The published scheme: the first places of a shuffle are held out.
  std::vector<int> shuffled = reference::Shuffle(5, 5, 7, 11);
  std::sort(shuffled.begin(), shuffled.begin() + 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(validation.classes[i], shuffled[i]);
  Dataset other;
  SplitForValidation(rows, 0.25, 6, 7).validation.View(0, 3, &other);
  EXPECT_NE(other.classes, validation.classes);
}

TEST(DataTest, AShareIsRoundedUp) {
  EXPECT_EQ(ValidationRows(10, 0.1), 1);
  EXPECT_EQ(ValidationRows(10, 0.11), 2);
  EXPECT_EQ(ValidationRows(10, 0.999), 10);
  EXPECT_EQ(ValidationRows(2, 0.001), 1);
}

}  // namespace
}  // namespace backprop::engine
