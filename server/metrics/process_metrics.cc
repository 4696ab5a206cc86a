#include "server/metrics/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace backprop::metrics {
namespace {

// Numbers in proc/self/stat, counted from the field after the name of the program (proc(5)).
enum StatField : size_t {
  kUserTicks = 11,
  kSystemTicks = 12,
  kThreads = 17,
  kStartTicks = 19,
  kVirtualBytes = 20,
  kResidentPages = 21,
};

// The fields of proc/self/stat after the name, which may contain spaces and parentheses. Empty if
// they cannot be read.
std::vector<std::string> StatFields(const std::string& proc) {
  std::ifstream file(absl::StrCat(proc, "/self/stat"));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::vector<std::string> fields =
      absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipWhitespace());
  return fields.size() > kResidentPages ? fields : std::vector<std::string>();
}

double Number(const std::vector<std::string>& fields, StatField field) {
  double number = 0;
  return absl::SimpleAtod(fields[field], &number) ? number : 0;
}

// When the machine started, in seconds since 1970.
std::optional<double> BootTime(const std::string& proc) {
  std::ifstream file(absl::StrCat(proc, "/stat"));
  std::string line;
  while (std::getline(file, line)) {
    double seconds = 0;
    if (absl::StartsWith(line, "btime ") && absl::SimpleAtod(line.substr(6), &seconds)) {
      return seconds;
    }
  }
  return std::nullopt;
}

std::optional<int64_t> CountDescriptors(const std::string& proc) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(
      opendir(absl::StrCat(proc, "/self/fd").c_str()), &closedir);
  if (directory == nullptr) return std::nullopt;
  int64_t count = -1;  // without the one that reads the directory
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count;
}

}  // namespace

void AddProcess(Page* page, const std::string& proc) {
  const std::vector<std::string> fields = StatFields(proc);
  if (!fields.empty()) {
    const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
    page->Counter("process_cpu_seconds_total", "CPU time of the process, user and system.");
    page->Add((Number(fields, kUserTicks) + Number(fields, kSystemTicks)) / ticks_per_second);
    page->Gauge("process_resident_memory_bytes", "Resident memory of the process.");
    page->Add(Number(fields, kResidentPages) * static_cast<double>(sysconf(_SC_PAGESIZE)));
    page->Gauge("process_virtual_memory_bytes", "Address space of the process.");
    page->Add(Number(fields, kVirtualBytes));
    page->Gauge("process_threads", "Threads of the process.");
    page->Add(Number(fields, kThreads));
    if (const auto boot = BootTime(proc)) {
      page->Gauge("process_start_time_seconds", "When the process started, in seconds since 1970.");
      page->Add(*boot + Number(fields, kStartTicks) / ticks_per_second);
    }
  }
  if (const auto open = CountDescriptors(proc)) {
    page->Gauge("process_open_fds", "Open file descriptors.");
    page->Add(*open);
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    page->Gauge("process_max_fds", "Maximum number of open file descriptors.");
    page->Add(static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace backprop::metrics
