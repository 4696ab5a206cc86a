#include "server/engine/split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "tests/engine/cases.h"
#include "tests/engine/reference_random.h"

namespace backprop::engine {
namespace {

TEST(SplitTest, ASplitHoldsOutItsFractionAndKeepsTheOrder) {
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
  const Split split = SplitForValidation(rows, {0.25, 5, 7});
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
  // The published scheme: the first rows of a shuffle are the validation rows.
  std::vector<int> shuffled = reference::Shuffle(5, 5, 7, 11);
  std::sort(shuffled.begin(), shuffled.begin() + 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(validation.classes[i], shuffled[i]);
  Dataset other;
  SplitForValidation(rows, {0.25, 6, 7}).validation.View(0, 3, &other);
  EXPECT_NE(other.classes, validation.classes);
}

TEST(SplitTest, TheFractionIsRoundedUp) {
  EXPECT_EQ(ValidationRows(10, 0.1), 1);
  EXPECT_EQ(ValidationRows(10, 0.11), 2);
  EXPECT_EQ(ValidationRows(10, 0.999), 10);
  EXPECT_EQ(ValidationRows(2, 0.001), 1);
}

std::shared_ptr<const Dataset> WithClasses(std::vector<int32_t> classes) {
  Dataset data;
  data.rows = static_cast<int64_t>(classes.size());
  data.inputs_per_row = 1;
  data.inputs = Buffer(DataType::kFloat64, data.rows);
  for (int64_t i = 0; i < data.rows; ++i) data.inputs.Set(i, static_cast<double>(i));
  data.classes = std::move(classes);
  return std::make_shared<const Dataset>(std::move(data));
}

std::vector<int> HeldOut(const Split& split) {
  std::vector<int> rows;
  for (int64_t i = 0; i < split.validation.rows(); ++i) {
    rows.push_back(static_cast<int>(split.validation.At(i)));
  }
  return rows;
}

// 95 rows of one class and 5 of another, with a tenth for validation. Without stratification the
// rare class was missing from the validation rows for 27 of 40 seeds.
TEST(SplitTest, ARareClassIsOnBothSidesWithEverySeed) {
  std::vector<int32_t> classes(100, 0);
  for (size_t i = 0; i < 5; ++i) classes[17 * i] = 1;
  const auto data = WithClasses(classes);
  int missing_without = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto rare = [&](bool stratify) {
      const auto rows = HeldOut(SplitForValidation(data, {0.1, seed, 0, stratify}));
      EXPECT_EQ(rows.size(), 10U);
      return std::count_if(rows.begin(), rows.end(), [&](int row) { return row % 17 == 0; });
    };
    EXPECT_EQ(rare(true), 1) << "seed " << seed;
    missing_without += rare(false) == 0 ? 1 : 0;
  }
  EXPECT_GT(missing_without, 15) << "without stratification";
}

TEST(SplitTest, ClassesAreRoundedAsPublished) {
  using Counts = std::vector<int64_t>;
  struct Row {
    Counts rows;
    int64_t held_out;
    Counts expected;
  };
  for (const Row& row : std::vector<Row>{
           {{50, 50}, 20, {10, 10}},
           {{95, 5}, 10, {9, 1}},       // 9.5 and 0.5: the rare class takes its row from the other
           {{3, 3, 3}, 4, {2, 1, 1}},   // 4/3 each: ties favour the lowest class
           {{10, 7, 3}, 5, {2, 2, 1}},  // 2.5, 1.75, 0.75
           {{2, 2}, 1, {1, 0}},         // no room for both classes
           {{2, 2}, 3, {2, 1}},         // no room for both on the other side
           {{9, 1}, 5, {5, 0}},         // a single row is trained on
           {{1, 1, 1, 1}, 2, {1, 1, 0, 0}},
           {{0, 4, 0, 4}, 2, {0, 1, 0, 1}},
           {{97, 2, 1}, 98, {96, 1, 1}},  // almost nothing is left to train on
           {{4}, 0, {0}},
       }) {
    EXPECT_EQ(HeldOutOfClasses(row.rows, row.held_out), row.expected)
        << testing::PrintToString(row.rows) << " " << row.held_out;
  }
}

// Another program reproduces the split from docs/numerics.md.
TEST(SplitTest, RandomSplitsAreThePublishedOnesAndStratified) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const size_t n = 2 + random() % 60;
    const uint32_t k = 1 + random() % 8;
    std::vector<int32_t> classes;
    for (size_t i = 0; i < n; ++i) {
      classes.push_back(static_cast<int32_t>(std::min(random() % k, random() % k)));
    }
    const double share = static_cast<double>(1 + random() % 98) / 100;
    if (ValidationRows(static_cast<int64_t>(n), share) >= static_cast<int64_t>(n)) continue;
    const SplitPlan plan{share, random(), random(), random() % 4 != 0};
    const auto data = WithClasses(classes);
    const auto rows = HeldOut(SplitForValidation(data, plan));
    ASSERT_EQ(rows, reference::ValidationSplit(plan.seed, plan.index, share,
                                               plan.stratify ? classes : std::vector<int32_t>(n)))
        << "round " << round;
    if (!plan.stratify) continue;
    // Each class is within two rows of its share: one from rounding, one from a rare neighbour.
    for (uint32_t c = 0; c < k; ++c) {
      const auto of_class = std::count(classes.begin(), classes.end(), static_cast<int32_t>(c));
      const auto held_out = std::count_if(rows.begin(), rows.end(), [&](int row) {
        return classes[static_cast<size_t>(row)] == static_cast<int32_t>(c);
      });
      const double wanted =
          static_cast<double>(rows.size()) * static_cast<double>(of_class) / static_cast<double>(n);
      EXPECT_NEAR(static_cast<double>(held_out), wanted, 4) << "round " << round;
    }
  }
}

TEST(SplitTest, RowsWithoutClassesAreNotStratified) {
  Dataset data;
  data.rows = 10;
  data.inputs_per_row = 1;
  data.targets_per_row = 1;
  data.inputs = Buffer(DataType::kFloat64, 10);
  data.targets = Buffer(DataType::kFloat64, 10);
  const auto rows = std::make_shared<const Dataset>(std::move(data));
  EXPECT_EQ(HeldOut(SplitForValidation(rows, {0.3, 1, 0, true})),
            HeldOut(SplitForValidation(rows, {0.3, 1, 0, false})));
}

}  // namespace
}  // namespace backprop::engine
