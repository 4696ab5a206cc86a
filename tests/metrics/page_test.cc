#include "server/metrics/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace backprop::metrics {
namespace {

using testing::HasSubstr;

TEST(PageTest, FamiliesAreInTheirOrder) {
  Page page;
  page.Counter("b_total", "Counts b.");
  page.Add(int64_t{7}, {{"kind", "x"}, {"other", "y"}});
  page.Add(2.5);
  page.Gauge("a", "Is a.");
  page.Add(int64_t{-1});
  EXPECT_EQ(page.Text(),
            "# HELP b_total Counts b.\n"
            "# TYPE b_total counter\n"
            "b_total{kind=\"x\",other=\"y\"} 7\n"
            "b_total 2.5\n"
            "# HELP a Is a.\n"
            "# TYPE a gauge\n"
            "a -1\n");
}

// The name of a project comes from a file, so it must not be able to add a line.
TEST(PageTest, ALabelCannotBreakALine) {
  Page page;
  page.Gauge("a", "Is a.");
  page.Add(int64_t{1}, {{"project", "x\"} 7\nforged 8\n\\"}});
  EXPECT_THAT(page.Text(), HasSubstr("a{project=\"x\\\"} 7\\nforged 8\\n\\\\\"} 1\n"));
}

TEST(PageTest, HistogramsAreCumulativeAndInSeconds) {
  base::TimeHistogram times;
  times.Add(std::chrono::microseconds(40));
  times.Add(std::chrono::microseconds(60));
  times.Add(std::chrono::seconds(100));
  Page page;
  page.Histogram("wait_seconds", "Waits.");
  page.AddTimes(times.values(), {{"class", "x"}});
  const std::string text = page.Text();
  EXPECT_THAT(text, HasSubstr("# TYPE wait_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_bucket{class=\"x\",le=\"5e-05\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_bucket{class=\"x\",le=\"0.0001\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_bucket{class=\"x\",le=\"60\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_bucket{class=\"x\",le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_count{class=\"x\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("wait_seconds_sum{class=\"x\"} 100.0001\n"));
}

TEST(PageTest, SizesHaveNoUnit) {
  base::SizeHistogram sizes;
  sizes.Add(3);
  Page page;
  page.Histogram("group_changes", "Groups.");
  page.AddSizes(sizes.values());
  EXPECT_THAT(page.Text(), HasSubstr("group_changes_bucket{le=\"2\"} 0\n"));
  EXPECT_THAT(page.Text(), HasSubstr("group_changes_bucket{le=\"4\"} 1\n"));
  EXPECT_THAT(page.Text(), HasSubstr("group_changes_sum 3\n"));
}

}  // namespace
}  // namespace backprop::metrics
