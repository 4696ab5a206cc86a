#include "server/session/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "server/base/limits.h"

namespace backprop::session {
namespace {

using testing::HasSubstr;

class MemoryBudgetTest : public testing::Test {
 protected:
  MemoryBudgetTest() {
    limits.memory_limit_bytes = 1000;
    limits.memory_fixed_bytes = 200;
  }
  base::Limits limits;
  MemoryBudget budget{&limits};
};

TEST_F(MemoryBudgetTest, WorkIsRefusedOneByteBeyondTheRoom) {
  const auto most = budget.AskForWork(800, "work");
  ASSERT_TRUE(most.ok());
  const auto more = budget.AskForWork(1, "a run of models/m");
  EXPECT_EQ(more.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(more.status().message(),
              HasSubstr("a run of models/m: needs 1 bytes of memory, but 800 "
                        "of the 800 bytes available under --memory-limit"));
  EXPECT_EQ(budget.work(), 800) << "what was refused is not counted";
}

TEST_F(MemoryBudgetTest, WhatHasEndedIsFree) {
  {
    auto claim = budget.AskForWork(800, "work");
    ASSERT_TRUE(claim.ok());
    const MemoryBudget::Claim moved = *std::move(claim);
    EXPECT_EQ(budget.work(), 800);
  }
  EXPECT_EQ(budget.work(), 0);
  EXPECT_TRUE(budget.AskForWork(800, "work").ok());
}

TEST_F(MemoryBudgetTest, AssigningGivesTheOldOneBack) {
  MemoryBudget::Claim claim = budget.CountWork(10);
  claim = budget.CountWork(30);
  EXPECT_EQ(budget.work(), 30);
  claim = {};
  EXPECT_EQ(budget.work(), 0);
}

TEST_F(MemoryBudgetTest, ModelsHaveWhatTheWorkLeavesButAtLeastAQuarter) {
  auto models = budget.CountModel(800);
  EXPECT_FALSE(budget.models_exceed());
  models.Resize(801);
  EXPECT_TRUE(budget.models_exceed());
  models.Resize(300);
  auto work = budget.CountWork(501);
  EXPECT_TRUE(budget.models_exceed());
  work.Resize(800);
  models.Resize(201);
  EXPECT_TRUE(budget.models_exceed());
  models.Resize(200);
  EXPECT_FALSE(budget.models_exceed());
}

TEST_F(MemoryBudgetTest, AModelThatCannotBeEvictedIsRefused) {
  const auto models = budget.CountModel(700);
  EXPECT_TRUE(budget.CheckModel(100, "models/m").ok());
  EXPECT_EQ(budget.CheckModel(101, "models/m").code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(MemoryBudgetTest, WhatIsFixedLeavesAtLeastAQuarter) {
  limits.memory_fixed_bytes = 5000;
  EXPECT_TRUE(budget.AskForWork(250, "work").ok());
  EXPECT_FALSE(budget.AskForWork(251, "work").ok());
}

TEST_F(MemoryBudgetTest, WithoutALimitNothingIsRefused) {
  limits.memory_limit_bytes = 0;
  const auto models = budget.CountModel(int64_t{1} << 50);
  const auto work = budget.AskForWork(int64_t{1} << 50, "work");
  EXPECT_TRUE(work.ok());
  EXPECT_TRUE(budget.CheckModel(1, "models/m").ok());
  EXPECT_FALSE(budget.models_exceed());
}

TEST(MemoryClaimTest, MayOutliveItsBudget) {
  base::Limits limits;
  MemoryBudget::Claim claim;
  {
    MemoryBudget budget(&limits);
    claim = budget.CountModel(1);
  }
  claim.Resize(2);
}

}  // namespace
}  // namespace backprop::session
