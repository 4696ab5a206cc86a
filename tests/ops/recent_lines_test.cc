#include "server/ops/recent_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace backprop::ops {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(RecentLinesTest, KeepsTheLatestLinesOldestFirst) {
  RecentLines recent(3, 1000);
  EXPECT_THAT(recent.lines(), IsEmpty());
  for (const char* line : {"a", "b", "c"}) recent.Add(line);
  EXPECT_THAT(recent.lines(), ElementsAre("a", "b", "c"));
  recent.Add("d");
  EXPECT_THAT(recent.lines(), ElementsAre("b", "c", "d"));
}

TEST(RecentLinesTest, IsBoundedInBytes) {
  RecentLines recent(100, 10);
  recent.Add("1234");
  recent.Add("567890");
  EXPECT_THAT(recent.lines(), ElementsAre("1234", "567890")) << "at the limit";
  recent.Add("x");
  EXPECT_THAT(recent.lines(), ElementsAre("567890", "x")) << "one past it";
  recent.Add("0123456789");
  EXPECT_THAT(recent.lines(), ElementsAre("0123456789"));
  recent.Add("");
  EXPECT_THAT(recent.lines(), ElementsAre("0123456789", ""));
}

TEST(RecentLinesTest, ALongLineIsCutAtACharacter) {
  RecentLines recent(100, 4);
  recent.Add("before");
  recent.Add("abc\xC3\xA9");
  EXPECT_THAT(recent.lines(), ElementsAre("abc"));
}

TEST(RecentLinesTest, EmptyLinesAreBoundedInNumber) {
  RecentLines recent(5, 10);
  for (int i = 0; i < 100; ++i) recent.Add("");
  EXPECT_EQ(recent.lines().size(), 5U);
}

TEST(RecentLinesTest, LinesOfManyThreadsAreWhole) {
  RecentLines recent(100, 10'000);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&recent, i] {
      for (int j = 0; j < 1000; ++j) recent.Add(absl::StrCat("thread ", i, " line ", j));
      recent.lines();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = recent.lines();
  EXPECT_EQ(lines.size(), 100U);
  for (const std::string& line : lines) {
    EXPECT_THAT(line, testing::MatchesRegex("thread [0-3] line [0-9]+"));
  }
}

}  // namespace
}  // namespace backprop::ops
