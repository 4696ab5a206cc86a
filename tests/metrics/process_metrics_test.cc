#include "server/metrics/process_metrics.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/temporary_directory.h"

namespace backprop::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Text(const std::string& proc) {
  Page page;
  AddProcess(&page, proc);
  return page.Text();
}

double Value(const std::string& text, const std::string& name) {
  const size_t begin = text.find(absl::StrCat("\n", name, " "));
  double value = -1;
  EXPECT_NE(begin, std::string::npos) << name << " in " << text;
  if (begin == std::string::npos) return value;
  const size_t number = begin + name.size() + 2;
  EXPECT_TRUE(absl::SimpleAtod(text.substr(number, text.find('\n', number) - number), &value));
  return value;
}

TEST(ProcessMetricsTest, TellsOfThisProcess) {
  const double before = Value(Text("/proc"), "process_open_fds");
  const int fd = open("/dev/null", O_RDONLY);
  const std::string text = Text("/proc");
  close(fd);
  EXPECT_EQ(Value(text, "process_open_fds"), before + 1);
  EXPECT_GT(Value(text, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(Value(text, "process_virtual_memory_bytes"),
            Value(text, "process_resident_memory_bytes"));
  EXPECT_GT(Value(text, "process_max_fds"), before);
  EXPECT_GE(Value(text, "process_threads"), 1);
  EXPECT_GE(Value(text, "process_cpu_seconds_total"), 0);
  const double age = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()) -
                     Value(text, "process_start_time_seconds");
  EXPECT_GE(age, -2) << "the kernel rounds the time of its start to seconds";
  EXPECT_LT(age, 600);
}

// The name of a program may look like other fields.
TEST(ProcessMetricsTest, ReadsTheFieldsAfterTheName) {
  const TemporaryDirectory folder;
  std::filesystem::create_directories(folder.path() + "/self/fd");
  std::ofstream(folder.path() + "/self/stat")
      << "7 (a) S 9 (b) R 1 2 3 4 5 6 7 8 9 10 300 200 13 14 15 16 17 18 500 8192 3 22 23\n";
  std::ofstream(folder.path() + "/stat") << "cpu 1 2\nbtime 1000\n";
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const std::string text = Text(folder.path());
  EXPECT_DOUBLE_EQ(Value(text, "process_cpu_seconds_total"), 500 / ticks);
  EXPECT_EQ(Value(text, "process_threads"), 17);
  EXPECT_DOUBLE_EQ(Value(text, "process_start_time_seconds"), 1000 + 500 / ticks);
  EXPECT_EQ(Value(text, "process_virtual_memory_bytes"), 8192);
  EXPECT_EQ(Value(text, "process_resident_memory_bytes"),
            3.0 * static_cast<double>(sysconf(_SC_PAGESIZE)));
}

TEST(ProcessMetricsTest, LeavesOutWhatCannotBeRead) {
  const TemporaryDirectory folder;
  const std::string text = Text(folder.path());
  EXPECT_THAT(text, Not(HasSubstr("process_cpu_seconds_total")));
  EXPECT_THAT(text, Not(HasSubstr("process_open_fds")));
  EXPECT_THAT(text, HasSubstr("process_max_fds"));
}

}  // namespace
}  // namespace backprop::metrics
