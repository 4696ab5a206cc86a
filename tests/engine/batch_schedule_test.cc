#include "server/engine/batch_schedule.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/engine/cases.h"
#include "tests/engine/reference_random.h"

namespace backprop::engine {
namespace {

// Ten rows whose class is their index.
Dataset Numbered(int64_t rows) {
  Dataset data;
  data.rows = rows;
  data.inputs_per_row = 1;
  data.inputs = Buffer(DataType::kFloat32, rows);
  for (int32_t i = 0; i < rows; ++i) {
    data.inputs.Set(i, i);
    data.classes.push_back(i);
  }
  return data;
}

std::vector<int32_t> RowsOf(BatchSchedule* schedule, int64_t iteration) {
  const BatchView view = schedule->Batch(iteration);
  std::vector<int32_t> rows(view.classes, view.classes + view.rows);
  const float* inputs = reinterpret_cast<const float*>(view.inputs);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(inputs[i], static_cast<float>(rows[i]));
  return rows;
}

TEST(BatchScheduleTest, WithoutShuffleRowsComeInOrderAndTheLastBatchIsSmaller) {
  const Dataset data = Numbered(10);
  BatchSchedule schedule({4, false, 0, 0}, data);
  EXPECT_EQ(schedule.iterations_per_epoch(), 3);
  EXPECT_EQ(RowsOf(&schedule, 0), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(RowsOf(&schedule, 2), (std::vector<int32_t>{8, 9}));
  EXPECT_EQ(RowsOf(&schedule, 3), (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(BatchScheduleTest, EveryEpochVisitsEveryRowOnceInAnOrderOfItsOwn) {
  const Dataset data = Numbered(10);
  BatchSchedule schedule({4, true, 5, 0}, data);
  std::set<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<int32_t> order;
    for (int64_t i = 0; i < 3; ++i) {
      const auto rows = RowsOf(&schedule, epoch * 3 + i);
      order.insert(order.end(), rows.begin(), rows.end());
    }
    EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(), 10U);
    EXPECT_EQ(order.size(), 10U);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5U);
}

// Runs can resume because the batch of any iteration is available at any time.
TEST(BatchScheduleTest, ABatchIsAFunctionOfItsIterationAlone) {
  const Dataset data = Numbered(10);
  BatchSchedule forward({3, true, 5, 0}, data);
  BatchSchedule backward({3, true, 5, 0}, data);
  std::vector<std::vector<int32_t>> rows;
  for (int64_t i = 0; i < 12; ++i) rows.push_back(RowsOf(&forward, i));
  for (int64_t i = 12; i-- > 0;) EXPECT_EQ(RowsOf(&backward, i), rows[static_cast<size_t>(i)]);
  // A run that starts at the second epoch of another run sees the same order.
  BatchSchedule later({3, true, 5, 4}, data);
  EXPECT_EQ(RowsOf(&later, 0), rows[4]);
  BatchSchedule other_seed({3, true, 6, 0}, data);
  EXPECT_NE(RowsOf(&other_seed, 0), rows[0]);
}

// Another program reproduces the order from docs/numerics.md.
TEST(BatchScheduleTest, TheOrderIsThePublishedOne) {
  const Dataset data = Numbered(10);
  BatchSchedule schedule({10, true, 0x123456789, 7}, data);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const auto expected = reference::Shuffle(0x123456789, 2, static_cast<uint64_t>(7 + epoch), 10);
    EXPECT_EQ(RowsOf(&schedule, epoch), std::vector<int32_t>(expected.begin(), expected.end()));
  }
}

TEST(BatchScheduleTest, TargetsAreGatheredWithTheirRows) {
  CaseOptions options;
  options.loss.kind = Loss::kMeanSquaredError;
  options.wanted = Wanted::kTargets;
  const Case c = MakeCase(options, 1);
  const std::vector<int32_t> order = {6, 0, 3};
  Dataset out = EmptyLike(c.data, 3);
  Gather(c.data, order, &out);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      EXPECT_EQ(out.targets.Get(i * 3 + j),
                c.data.targets.Get(order[static_cast<size_t>(i)] * 3 + j));
    }
  }
}

}  // namespace
}  // namespace backprop::engine
