// Parts of the command line's display: rates, fitted lines, tables, addresses, suggestions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/live_line.h"
#include "client/cli/progress.h"
#include "client/cli/rate_meter.h"
#include "client/cli/server_address.h"
#include "client/cli/suggest.h"
#include "client/cli/text_table.h"

namespace backprop::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const RateMeter::Clock::time_point kBegin{seconds(1000)};

TEST(RateMeter, LeavesOutWhatWasBeforeTheFirstReport) {
  RateMeter rate;
  EXPECT_EQ(rate.PerSecond(), std::nullopt);
  // This report follows ten minutes of start-up, which the meter does not see.
  rate.Add(1, kBegin);
  EXPECT_EQ(rate.PerSecond(), std::nullopt);
  rate.Add(101, kBegin + seconds(1));
  EXPECT_DOUBLE_EQ(rate.PerSecond().value(), 100);
  rate.Add(201, kBegin + seconds(2));
  EXPECT_DOUBLE_EQ(rate.PerSecond().value(), 100);
}

TEST(RateMeter, TakesThePastOfAWatchedRunForOneReport) {
  RateMeter rate;
  for (int i = 0; i < 50; ++i) rate.Add(1 + i * 1000, kBegin + milliseconds(i));
  EXPECT_EQ(rate.PerSecond(), std::nullopt);
  rate.Add(49001 + 10, kBegin + milliseconds(49) + seconds(1));
  EXPECT_DOUBLE_EQ(rate.PerSecond().value(), 10);
}

TEST(RateMeter, FollowsARunThatGetsSlower) {
  RateMeter rate;
  int64_t iteration = 0;
  int64_t second = 0;
  for (; second < 100; ++second) rate.Add(iteration += 1000, kBegin + seconds(second));
  for (; second < 140; ++second) rate.Add(iteration += 10, kBegin + seconds(second));
  EXPECT_DOUBLE_EQ(rate.PerSecond().value(), 10);
}

TEST(RateMeter, SaysNothingOfARunThatStands) {
  RateMeter rate;
  rate.Add(7, kBegin);
  rate.Add(7, kBegin + seconds(5));
  EXPECT_EQ(rate.PerSecond(), std::nullopt);
}

TEST(LiveLine, DropsTheLeastImportantPartsFirst) {
  const std::vector<LinePart> parts = {{"10/20", 0}, {"loss 1", 2}, {"", 1}, {"ETA 5 s", 1}};
  EXPECT_EQ(FitLine(parts, 22), "10/20  loss 1  ETA 5 s");
  EXPECT_EQ(FitLine(parts, 21), "10/20  ETA 5 s");
  EXPECT_EQ(FitLine(parts, 14), "10/20  ETA 5 s");
  EXPECT_EQ(FitLine(parts, 13), "10/20");
  EXPECT_EQ(FitLine(parts, 3), "10/");
  EXPECT_EQ(FitLine({{"▁▂▃", 0}}, 2), "▁▂");
}

TEST(ProgressParts, EtaIsOfTheRate) {
  Progress progress;
  progress.iteration = 1000;
  progress.total_iterations = 11000;
  progress.eta = seconds(9999);  // the server's, including the start-up
  EXPECT_THAT(FitLine(ProgressParts(progress, 1000.0, {}), 200),
              testing::AllOf(testing::HasSubstr("ETA 10.00 s"), testing::HasSubstr("1000 steps/s"),
                             testing::HasSubstr("1000/11000   9%")));
  // Nothing overflows.
  progress.total_iterations = int64_t{1} << 53;
  EXPECT_THAT(FitLine(ProgressParts(progress, 1e-9, {}), 200), testing::HasSubstr("ETA 11574.1 d"));
}

TEST(TextTable, HasColumnsAsWideAsTheirContents) {
  TextTable table({{"NAME"}, {"STEP", true}, {"MODEL"}});
  EXPECT_EQ(table.ToString(), "");
  table.Add({"a", "10000", "2 → 3"});
  table.Add({"longer", "1", ""});
  EXPECT_EQ(table.ToString(),
            "NAME     STEP  MODEL\n"
            "a       10000  2 → 3\n"
            "longer      1\n");
}

TEST(Age, HasOneUnit) {
  const auto ago = [](auto time) { return Age(std::chrono::system_clock::now() - time); };
  EXPECT_EQ(Age({}), "-");
  EXPECT_EQ(ago(seconds(-5)), "0s");
  EXPECT_EQ(ago(milliseconds(119500)), "119s");
  EXPECT_EQ(ago(seconds(120)), "2m");
  EXPECT_EQ(ago(seconds(2 * 3600)), "2h");
  EXPECT_EQ(ago(seconds(48 * 3600)), "2d");
}

TEST(ServerAddress, IsCompleted) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"localhost", "localhost:50051"},   {"localhost:1", "localhost:1"},
      {"10.0.0.1", "10.0.0.1:50051"},     {"::1", "[::1]:50051"},
      {"[::1]", "[::1]:50051"},           {"[fe80::1%eth0]:65535", "[fe80::1%eth0]:65535"},
      {"unix:/run/x", "unix:/run/x"},     {"unix:///run/x", "unix:///run/x"},
      {"dns:///host:1", "dns:///host:1"}, {"2001:db8::2:50051", "[2001:db8::2:50051]:50051"},
  };
  for (const auto& [given, expected] : cases) {
    std::string address = given;
    EXPECT_EQ(CompleteServerAddress(&address), "") << given;
    EXPECT_EQ(address, expected);
  }
}

TEST(ServerAddress, IsRefused) {
  for (const char* given : {"", ":", ":1", "h:", "h:x", "h:0", "h:65536", "h:-1", "[::1", "[]",
                            "[::1]x", "[::1]:", "a b", "h/x", "http://h:1", "unix:"}) {
    std::string address = given;
    EXPECT_THAT(CompleteServerAddress(&address), testing::HasSubstr("expected host:port")) << given;
    EXPECT_EQ(address, given);
  }
}

TEST(Suggest, CountsEdits) {
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("trian", "train"), 1u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("same", "same"), 0u);
}

TEST(Suggest, NamesTheNearest) {
  const std::vector<std::string> names = {"create", "train", "list", "--learning-rate", "--l1"};
  EXPECT_EQ(Nearest("trian", names), "train");
  EXPECT_EQ(Nearest("--learning_rate", names), "--learning-rate");
  EXPECT_EQ(Nearest("--learn", names), "--learning-rate");
  EXPECT_EQ(Nearest("frobnicate", names), "");
  EXPECT_EQ(Nearest("x", names), "");
}

}  // namespace
}  // namespace backprop::cli
