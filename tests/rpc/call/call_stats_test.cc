#include "server/rpc/call/call_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::rpc {
namespace {

using std::chrono::microseconds;
using Row = std::tuple<std::string, std::string, absl::StatusCode, int64_t>;

std::vector<Row> Rows(const CallStats& stats) {
  std::vector<Row> rows;
  for (const auto& ended : stats.ended()) {
    rows.emplace_back(ended.method, CountedProjectName(ended.project), ended.code, ended.calls);
  }
  return rows;
}

absl::Status Refusal(const std::string& reason) {
  return base::ReasonError(absl::StatusCode::kAborted, "no", {reason, {}});
}

TEST(CallStatsTest, CountsByMethodProjectAndCode) {
  CallStats stats;
  CallStats::Method* const step = stats.Add("Step");
  CallStats::Method* const predict = stats.Add("Predict");
  for (int i = 0; i < 5; ++i) step->Begin();
  predict->Begin();
  EXPECT_EQ(step->in_flight(), 5);
  stats.End(step, CountedProject("default"), absl::StatusCode::kOk, microseconds(70));
  stats.End(step, CountedProject("default"), absl::StatusCode::kOk, microseconds(80));
  stats.End(step, CountedProject("default"), absl::StatusCode::kAborted, microseconds(10));
  stats.End(step, CountedProject("red"), absl::StatusCode::kOk, microseconds(1));
  EXPECT_EQ(step->in_flight(), 1);
  EXPECT_EQ(predict->in_flight(), 1);
  EXPECT_EQ(Rows(stats), (std::vector<Row>{{"Step", "default", absl::StatusCode::kOk, 2},
                                           {"Step", "default", absl::StatusCode::kAborted, 1},
                                           {"Step", "red", absl::StatusCode::kOk, 1}}));
  EXPECT_EQ(step->times().values().count(), 4);
  EXPECT_EQ(step->times().values().sum, 161'000);
  EXPECT_EQ(step->times().values().counts[0], 2);
  EXPECT_EQ(predict->times().values().count(), 0);
}

TEST(CallStatsTest, ACodeThatGrpcDoesNotKnowIsUnknown) {
  CallStats stats;
  CallStats::Method* const step = stats.Add("Step");
  step->Begin();
  stats.End(step, 0, static_cast<absl::StatusCode>(4711), microseconds(1));
  EXPECT_EQ(Rows(stats), (std::vector<Row>{{"Step", "default", absl::StatusCode::kUnknown, 1}}));
}

TEST(CallStatsTest, NoCallOfAnyThreadIsLost) {
  constexpr int kThreads = 12;
  constexpr int kEach = 5'000;
  CallStats stats;
  CallStats::Method* const step = stats.Add("Step");
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const size_t project = CountedProject("threads");
      for (int j = 0; j < kEach; ++j) {
        step->Begin();
        stats.End(step, project, absl::StatusCode::kOk, microseconds(1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Rows(stats),
            (std::vector<Row>{{"Step", "threads", absl::StatusCode::kOk, kThreads * kEach}}));
  EXPECT_EQ(step->in_flight(), 0);
}

TEST(CallStatsTest, CountsErrorsByTheirReason) {
  CallStats stats;
  stats.CountReason(Refusal("RUN_UNDER_WAY"));
  stats.CountReason(Refusal("RUN_UNDER_WAY"));
  stats.CountReason(Refusal("LIMIT_EXCEEDED"));
  stats.CountReason(absl::NotFoundError("without a reason"));
  stats.CountReason(base::FieldError("batch", "is required"));
  EXPECT_EQ(stats.reasons(),
            (std::map<std::string, int64_t>{{"LIMIT_EXCEEDED", 1}, {"RUN_UNDER_WAY", 2}}));
}

TEST(CallStatsTest, TheNumberOfReasonsIsBounded) {
  CallStats stats;
  for (size_t i = 0; i < CallStats::kMostReasons + 50; ++i) {
    stats.CountReason(Refusal(absl::StrCat("REASON_", i)));
  }
  EXPECT_EQ(stats.reasons().size(), CallStats::kMostReasons);
  EXPECT_EQ(stats.reasons().at("OTHER"), 51);
  stats.CountReason(Refusal("REASON_0"));
  EXPECT_EQ(stats.reasons().at("REASON_0"), 2);
}

// The numbers are those of the process, so this test uses all of them.
TEST(CountedProjectTest, TheNumberOfProjectsIsBounded) {
  EXPECT_EQ(CountedProject("default"), 0U);
  std::vector<size_t> numbers;
  for (size_t i = 0; i < kMostCountedProjects + 10; ++i) {
    numbers.push_back(CountedProject(absl::StrCat("project-", i)));
  }
  EXPECT_EQ(*std::max_element(numbers.begin(), numbers.end()), kMostCountedProjects - 1);
  EXPECT_EQ(CountedProject("project-0"), numbers[0]);
  EXPECT_EQ(CountedProjectName(numbers[0]), "project-0");
  EXPECT_EQ(CountedProjectName(numbers.back()), "(other)");
  EXPECT_EQ(numbers[numbers.size() - 2], numbers.back());
}

}  // namespace
}  // namespace backprop::rpc
