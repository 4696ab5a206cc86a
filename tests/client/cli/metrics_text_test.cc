#include "client/cli/metrics_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

MetricsPage Calls(double ok, double failed) {
  return MetricsPage::Parse(
      "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{code=\"OK\"} " +
      std::to_string(ok) + "\ncalls_total{code=\"ABORTED\"} " + std::to_string(failed) + "\n");
}

std::string MetricsErrorOf(const std::string& text) {
  try {
    MetricsPage::Parse(text);
  } catch (const DataError& error) {
    return error.message;
  }
  return "none";
}

TEST(MetricsPageTest, ReadsWhatTheFormatAllows) {
  const MetricsPage page = MetricsPage::Parse(
      "# a comment\n\n# HELP a Is \\\"a\\\".\n# TYPE a gauge\na 1.5\n"
      "b{x=\"1\",y=\"q\\\"u\\\\o\\nte}\",} -2e3 1700000000\n"
      "  b { x=\"2\" }\t+Inf\nnan NaN\n"
      "last 7");
  EXPECT_EQ(page.Sum({"a"}), 1.5);
  EXPECT_EQ(page.Sum({"b", {{"y", "q\"u\\o\nte}"}}}), -2000);
  EXPECT_EQ(page.Sum({"b", {{"x", "2"}}}), kInfinity);
  EXPECT_EQ(page.Sum({"last"}), 7);
  EXPECT_TRUE(std::isnan(page.Sum({"nan"}).value()));
  EXPECT_EQ(page.LabelValues("b", "x"), (std::set<std::string>{"1", "2"}));
}

TEST(MetricsPageTest, AnErrorNamesTheLine) {
  for (const char* line : {"a", "a ", "a b", "a 1x", "a{x=\"1\" 2", "a{x=1} 2", "a{x=\"1} 2",
                           "a{x=\"1\\", "a{x=\"1\",x=\"1\"} 2", "{x=\"1\"} 2", "a{=\"1\"} 2"}) {
    EXPECT_NE(MetricsErrorOf(std::string("ok 1\n") + line + "\nok 2\n").find("line 2: expected "),
              std::string::npos)
        << line << ": " << MetricsErrorOf(std::string("ok 1\n") + line + "\n");
  }
}

TEST(MetricsPageTest, SumsTheSeriesThatAQuerySelects) {
  const MetricsPage page = Calls(7, 3);
  EXPECT_EQ(page.Sum({"calls_total"}), 10);
  EXPECT_EQ(page.Sum({"calls_total", {{"code", "OK"}}}), 7);
  EXPECT_EQ(page.Sum({"calls_total", {}, {{"code", "OK"}}}), 3);
  EXPECT_EQ(page.Sum({"calls_total", {{"code", "INTERNAL"}}}), 0) << "not counted yet";
  EXPECT_EQ(page.Sum({"steps_total"}), std::nullopt) << "an older server";
  // A metric without a series is known by its type.
  const MetricsPage declared =
      MetricsPage::Parse("# TYPE refusals_total counter\n# TYPE t histogram\n");
  EXPECT_EQ(declared.Sum({"refusals_total"}), 0);
  EXPECT_EQ(declared.Sum({"t_count"}), 0);
}

TEST(RateTest, IsTheGrowthPerSecond) {
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(25, 5), {"calls_total"}, 2), 10);
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(25, 5), {"calls_total", {}, {{"code", "OK"}}}, 2), 2.5);
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(10, 0), {"calls_total"}, 2), 0);
  // The first call of a method makes its series.
  EXPECT_EQ(RateBetween(MetricsPage::Parse("# TYPE calls_total counter\n"), Calls(3, 1),
                        {"calls_total"}, 2),
            2);
}

TEST(RateTest, IsUnknownAfterARestartAndWithoutTime) {
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(9, 0), {"calls_total"}, 1), std::nullopt);
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(11, 0), {"calls_total"}, 0), std::nullopt);
  EXPECT_EQ(RateBetween(Calls(10, 0), Calls(11, 0), {"steps_total"}, 1), std::nullopt);
  EXPECT_EQ(RateBetween(MetricsPage(), Calls(11, 0), {"calls_total"}, 1), std::nullopt);
}

TEST(QuantileTest, InterpolatesWithinABucketAsPrometheusDoes) {
  // 10 values up to 1, 10 between 1 and 3, none between 3 and 5.
  const CumulativeCounts counts = {{1, 10}, {3, 20}, {5, 20}, {kInfinity, 20}};
  EXPECT_DOUBLE_EQ(Quantile(counts, 0.25).value(), 0.5);
  EXPECT_DOUBLE_EQ(Quantile(counts, 0.5).value(), 1);
  EXPECT_DOUBLE_EQ(Quantile(counts, 0.75).value(), 2);
  EXPECT_DOUBLE_EQ(Quantile(counts, 0.99).value(), 1 + 2 * (19.8 - 10) / 10);
  EXPECT_DOUBLE_EQ(Quantile(counts, 1).value(), 3);
  EXPECT_DOUBLE_EQ(Quantile(counts, 0).value(), 0);
}

TEST(QuantileTest, AboveTheLastBoundItIsThatBound) {
  EXPECT_DOUBLE_EQ(Quantile({{1, 0}, {3, 1}, {kInfinity, 10}}, 0.99).value(), 3);
  EXPECT_DOUBLE_EQ(Quantile({{1, 0}, {3, 0}, {kInfinity, 10}}, 0.5).value(), 3);
}

TEST(QuantileTest, OfNothingIsUnknown) {
  EXPECT_EQ(Quantile({}, 0.5), std::nullopt);
  EXPECT_EQ(Quantile({{1, 0}, {kInfinity, 0}}, 0.5), std::nullopt);
}

TEST(QuantileTest, EmptyBucketsBeforeTheValuesAreSkipped) {
  EXPECT_DOUBLE_EQ(Quantile({{1, 0}, {2, 0}, {4, 2}, {kInfinity, 2}}, 0).value(), 2);
  EXPECT_DOUBLE_EQ(Quantile({{1, 0}, {2, 0}, {4, 2}, {kInfinity, 2}}, 0.5).value(), 3);
}

TEST(HistogramTest, IsWhatWasAddedBetweenTwoPages) {
  const auto page = [](int first, int second, int all) {
    std::string text;
    for (const char* method : {"Step", "Predict"}) {
      const std::string start = std::string("t_bucket{method=\"") + method + "\",le=\"";
      text += start + "0.1\"} " + std::to_string(first) + "\n" + start + "5e-1\"} " +
              std::to_string(second) + "\n" + start + "+Inf\"} " + std::to_string(all) + "\n";
    }
    return MetricsPage::Parse(text);
  };
  const MetricsPage before = page(1, 2, 3);
  const MetricsPage after = page(1, 12, 23);
  const MetricLabels step = {{"method", "Step"}};
  EXPECT_EQ(after.Histogram("t", step), (CumulativeCounts{{0.1, 1}, {0.5, 12}, {kInfinity, 23}}));
  EXPECT_EQ(after.Histogram("t"), (CumulativeCounts{{0.1, 2}, {0.5, 24}, {kInfinity, 46}}));
  EXPECT_EQ(CountsBetween(before.Histogram("t", step), after.Histogram("t", step)),
            (CumulativeCounts{{0.1, 0}, {0.5, 10}, {kInfinity, 20}}));
  EXPECT_EQ(CountsBetween(after.Histogram("t"), before.Histogram("t")), CumulativeCounts());
  EXPECT_EQ(CountsBetween({}, after.Histogram("t")), CumulativeCounts());
  EXPECT_EQ(after.Histogram("other"), CumulativeCounts());
}

}  // namespace
}  // namespace backprop::cli
