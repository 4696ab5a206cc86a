// Known values; step_test.cc checks trajectories.
#include "server/engine/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace backprop::engine {
namespace {

class ScheduleTest : public testing::Test {
 protected:
  ScheduleTest() { optimizer.learning_rate = 0.1; }
  double At(int64_t steps) const {
    return LearningRate(optimizer, steps, InitialPlateau(optimizer));
  }
  OptimizerSpec optimizer;
  ScheduleSpec& schedule = optimizer.schedule;
};

TEST_F(ScheduleTest, ConstantIsTheLearningRate) {
  EXPECT_EQ(At(0), 0.1);
  EXPECT_EQ(At(1000000), 0.1);
}

TEST_F(ScheduleTest, StepFallsAtItsBoundary) {
  schedule.kind = ScheduleKind::kStep;
  schedule.step_size = 3;
  EXPECT_EQ(At(2), 0.1);
  EXPECT_DOUBLE_EQ(At(3), 0.01);
  EXPECT_DOUBLE_EQ(At(5), 0.01);
  EXPECT_DOUBLE_EQ(At(6), 0.001);
}

TEST_F(ScheduleTest, CosineReachesItsMinimumAndComesBack) {
  schedule.kind = ScheduleKind::kCosine;
  schedule.total_steps = 10;
  schedule.min_learning_rate = 0.02;
  EXPECT_DOUBLE_EQ(At(0), 0.1);
  EXPECT_DOUBLE_EQ(At(5), 0.06);
  EXPECT_DOUBLE_EQ(At(10), 0.02);
  EXPECT_DOUBLE_EQ(At(20), 0.1) << "as PyTorch's";
}

TEST_F(ScheduleTest, AWarmUpComesBeforeAnySchedule) {
  schedule.kind = ScheduleKind::kExponential;
  schedule.gamma = 0.5;
  schedule.warmup_steps = 4;
  schedule.warmup_start_factor = 0.2;
  EXPECT_DOUBLE_EQ(At(0), 0.02);
  EXPECT_DOUBLE_EQ(At(2), 0.06);
  EXPECT_DOUBLE_EQ(At(3), 0.08);
  EXPECT_DOUBLE_EQ(At(4), 0.1);
  EXPECT_DOUBLE_EQ(At(5), 0.05);
}

TEST_F(ScheduleTest, APlateauIsReducedAfterPatienceAndCooldown) {
  schedule.kind = ScheduleKind::kReduceOnPlateau;
  schedule.factor = 0.5;
  schedule.patience = 2;
  schedule.cooldown = 1;
  schedule.threshold = 0.1;
  schedule.min_learning_rate = 0.03;
  PlateauState plateau = InitialPlateau(optimizer);
  // 0.95 is not an improvement on 1 by a tenth. Two bad measurements are tolerated and the third
  // reduces the rate; the next one is ignored; three more reduce it again, to the minimum.
  const std::vector<double> losses = {1, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.5};
  const std::vector<double> rates = {0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.03, 0.03};
  for (size_t i = 0; i < losses.size(); ++i) {
    plateau = AfterMeasurement(optimizer, 100, plateau, losses[i]);
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, plateau), rates[i]) << i;
  }
  EXPECT_EQ(plateau.best, 0.5);
}

TEST_F(ScheduleTest, MeasurementsOfTheWarmUpDoNotCount) {
  schedule.kind = ScheduleKind::kReduceOnPlateau;
  schedule.patience = 0;
  schedule.warmup_steps = 10;
  PlateauState plateau = InitialPlateau(optimizer);
  for (int i = 0; i < 5; ++i) plateau = AfterMeasurement(optimizer, 9, plateau, 1);
  EXPECT_EQ(LearningRate(optimizer, 10, plateau), 0.1);
  EXPECT_TRUE(std::isinf(plateau.best));
}

}  // namespace
}  // namespace backprop::engine
