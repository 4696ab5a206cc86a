#include "client/cli/top_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/text_table.h"

namespace backprop::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::chrono::steady_clock::time_point kFirst{seconds(1000)};
const std::chrono::system_clock::time_point kStart{seconds(1'700'000'000)};

// A server with `methods` methods; each was called `calls` times, which took 2 ms each.
std::string MetricsAfter(int calls, int methods) {
  std::string text =
      "# TYPE backprop_requests_total counter\n# TYPE backprop_refusals_total counter\n"
      "backprop_runs_active 3\nbackprop_models 1000\nbackprop_models_resident 12\n"
      "backprop_pool_threads 4\nbackprop_memory_limit_bytes 0\n"
      "process_resident_memory_bytes 38000000\nbackprop_store_healthy 1\n";
  const std::string number = std::to_string(calls);
  for (int i = 0; i < methods; ++i) {
    const std::string method = "{method=\"M" + std::to_string(100 + i) + "\"";
    text += "backprop_request_duration_seconds_count" + method + "} " + number + "\n";
    for (const char* bound : {"0.002", "0.004", "+Inf"}) {
      text += "backprop_request_duration_seconds_bucket" + method + ",le=\"" + bound + "\"} " +
              (std::string(bound) == "0.002" ? "0" : number) + "\n";
    }
  }
  text += "backprop_requests_total{method=\"M100\",code=\"OK\"} " + number + "\n";
  text += "backprop_requests_total{method=\"M100\",code=\"ABORTED\"} " + number + "\n";
  for (const char* of : {"interactive", "background"}) {
    text += std::string("backprop_pool_busy_seconds_total{class=\"") + of + "\"} " + number + "\n";
    text += std::string("backprop_pool_waiting_tasks{class=\"") + of + "\"} 5\n";
  }
  return text;
}

Sample At(milliseconds time, int calls, int methods = 1,
          std::chrono::system_clock::time_point start = kStart) {
  ServerStatus status;
  status.version = "1.2.3";
  status.start_time = start;
  status.status_time = kStart + seconds(90) + time;
  status.health = {{"", true, ""}, {"writes", true, ""}};
  status.metrics = MetricsAfter(calls, methods);
  return SampleOf(std::move(status), kFirst + time);
}

TEST(ServerFiguresTest, RatesAreThoseBetweenTwoSamples) {
  const ServerFigures figures(At(milliseconds(0), 10), At(milliseconds(500), 12));
  EXPECT_DOUBLE_EQ(figures.interval_seconds().value(), 0.5);
  EXPECT_DOUBLE_EQ(figures.Get("calls", "perSecond").value(), 4);
  EXPECT_DOUBLE_EQ(figures.Get("calls", "errorsPerSecond").value(), 4);
  EXPECT_DOUBLE_EQ(figures.Get("calls", "refusalsPerSecond").value(), 0);
  EXPECT_DOUBLE_EQ(figures.Get("pool", "backgroundBusyThreads").value(), 4);
  EXPECT_EQ(figures.Get("runs", "active"), 3);
  EXPECT_EQ(figures.Get("work", "stepsPerSecond"), std::nullopt) << "not in these metrics";
  ASSERT_EQ(figures.methods().size(), 1U);
  const MethodFigures& method = figures.methods()[0];
  EXPECT_EQ(method.method, "M100");
  EXPECT_EQ(method.calls, 12);
  EXPECT_DOUBLE_EQ(method.calls_per_second.value(), 4);
  EXPECT_DOUBLE_EQ(method.errors_per_second.value(), 4);
  EXPECT_DOUBLE_EQ(method.p50_seconds.value(), 0.003);
  EXPECT_DOUBLE_EQ(method.p99_seconds.value(), 0.00398);
}

TEST(ServerFiguresTest, WithoutAnEarlierSampleOrAfterARestartThereAreNoRates) {
  for (const auto& before :
       {std::optional<Sample>(), std::optional(At(milliseconds(0), 10, 1, kStart - seconds(1)))}) {
    const ServerFigures figures(before, At(milliseconds(500), 12));
    EXPECT_EQ(figures.interval_seconds(), std::nullopt);
    EXPECT_EQ(figures.Get("calls", "perSecond"), std::nullopt);
    EXPECT_EQ(figures.Get("runs", "active"), 3);
    EXPECT_EQ(figures.methods().at(0).calls_per_second, std::nullopt);
    EXPECT_EQ(figures.methods().at(0).p99_seconds, std::nullopt);
  }
}

TEST(ServerFiguresTest, TheBusiestMethodIsFirstAndUnusedOnesAreLeftOut) {
  Sample after = At(milliseconds(1000), 10, 3);
  after.metrics = MetricsPage::Parse(
      "backprop_request_duration_seconds_count{method=\"M100\"} 10\n"
      "backprop_request_duration_seconds_count{method=\"M101\"} 15\n"
      "backprop_request_duration_seconds_count{method=\"Unused\"} 0\n"
      "backprop_request_duration_seconds_count{method=\"Open\"} 0\n"
      "backprop_requests_in_flight{method=\"Open\"} 1\n");
  std::vector<std::string> names;
  const ServerFigures figures(At(milliseconds(0), 10, 3), after);
  for (const MethodFigures& method : figures.methods()) names.push_back(method.method);
  EXPECT_EQ(names, (std::vector<std::string>{"M101", "M100", "Open"}));
}

TEST(ShownTest, NumbersHaveAboutThreeDigitsAndAUnit) {
  EXPECT_EQ(ShownNumber(std::nullopt), "-");
  EXPECT_EQ(ShownNumber(0), "0.0");
  EXPECT_EQ(ShownNumber(99.94), "99.9");
  EXPECT_EQ(ShownNumber(99.96), "100");
  EXPECT_EQ(ShownNumber(9999), "9999");
  EXPECT_EQ(ShownNumber(12345), "12.3k");
  EXPECT_EQ(ShownNumber(999'960), "1.0M");
  EXPECT_EQ(ShownNumber(4e9), "4.0G");
  EXPECT_EQ(ShownCount(3), "3");
  EXPECT_EQ(ShownCount(10'000), "10.0k");
  EXPECT_EQ(ShownSeconds(std::nullopt), "-");
  EXPECT_EQ(ShownSeconds(80e-6), "80 µs");
  EXPECT_EQ(ShownSeconds(0.0012), "1.2 ms");
  EXPECT_EQ(ShownSeconds(0.9999), "1.00 s");
  EXPECT_EQ(ShownSeconds(120), "2.0 min");
  EXPECT_EQ(ShownBytes(512e3), "512 kB");
  EXPECT_EQ(ShownBytes(38e6), "38 MB");
  EXPECT_EQ(ShownBytes(1.25e9), "1.2 GB");
}

TEST(TopLinesTest, FitTheTerminalAndKeepWhatMatters) {
  const ServerFigures figures(At(milliseconds(0), 10, 40), At(milliseconds(1000), 12, 40));
  for (const size_t width : {1, 5, 20, 40, 80, 200}) {
    for (const size_t height : {1, 5, 12, 13, 14, 24, 100}) {
      const auto lines = TopLines(figures, "", width, height);
      EXPECT_LE(lines.size(), height);
      for (const std::string& line : lines) EXPECT_LE(TextWidth(line), width) << line;
    }
  }
  const auto narrow = TopLines(figures, "", 30, 100);
  EXPECT_THAT(narrow, Contains(HasSubstr("3 active")));
  EXPECT_THAT(narrow, Not(Contains(HasSubstr("ended/s")))) << "dropped first";
  const auto low = TopLines(figures, "", 80, 24);
  EXPECT_EQ(low.size(), 24U);
  EXPECT_THAT(low, Contains(StartsWith("M100 ")));
  const size_t methods = static_cast<size_t>(
      std::count_if(low.begin(), low.end(), [](const auto& line) { return line[0] == 'M'; }) - 1);
  EXPECT_EQ(low.back(), "… and " + std::to_string(40 - methods) + " more methods");
  EXPECT_THAT(TopLines(figures, "", 80, 100).back(), StartsWith("M139 "));
}

TEST(TopLinesTest, SayWhatTheServerDoes) {
  const auto lines = TopLines({At(milliseconds(0), 10), At(milliseconds(1000), 12)}, "", 200, 100);
  EXPECT_THAT(lines[0], HasSubstr("SERVING  up 91 s  1.2.3"));
  EXPECT_THAT(lines, Contains(HasSubstr("2.0 calls/s  2.0 errors/s")));
  EXPECT_THAT(lines, Contains(HasSubstr("12 resident of 1000")));
  EXPECT_THAT(lines, Contains(HasSubstr("100% busy  4 threads  interactive 50%  background 50%")));
  EXPECT_THAT(lines, Contains(HasSubstr("38 MB resident  no limit")));
  EXPECT_THAT(lines.back(), HasSubstr("3.0 ms  4.0 ms"));
}

TEST(TopLinesTest, TroubleAndNotesComeFirst) {
  Sample sample = At(milliseconds(0), 10);
  sample.status.health = {{"", false, "the server stops"}, {"w", false, "disk\nfull \x1b[2J"}};
  const ServerFigures figures(std::nullopt, sample);
  EXPECT_THAT(TopLines(figures, "", 200, 1)[0],
              HasSubstr("NOT_SERVING: the server stops; w: disk"));
  EXPECT_THAT(TopLines(figures, "", 200, 1)[0], Not(HasSubstr("\x1b")));
  EXPECT_THAT(TopLines(figures, "UNAVAILABLE: gone", 40, 1)[0],
              StartsWith("backpropd  UNAVAILABLE: gone"));
}

TEST(TopJsonTest, HasAllKnownFiguresAndNoOthers) {
  const std::string json = TopJson({At(milliseconds(0), 10, 2), At(milliseconds(500), 12, 2)});
  EXPECT_THAT(json, HasSubstr(R"("intervalSeconds":0.5,)"));
  EXPECT_THAT(json, HasSubstr(R"("time":"2023-11-14T22:14:50Z")"));
  EXPECT_THAT(json, HasSubstr(R"("calls":{"errorsPerSecond":4,"perSecond":8,)"));
  EXPECT_THAT(json, HasSubstr(R"("work":{})")) << "not known";
  EXPECT_EQ(json.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace backprop::cli
