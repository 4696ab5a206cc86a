#include "server/ops/cgroup.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace backprop::ops {
namespace {

// Version 1 represents "no limit" by the largest number of whole pages.
constexpr int64_t kNoLimit = int64_t{1} << 60;

std::vector<std::string> LinesOf(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

template <class T>
void Lower(std::optional<T>* limit, T value) {
  *limit = limit->has_value() ? std::min(**limit, value) : value;
}

std::optional<int64_t> NumberIn(const std::string& path) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(FirstLine(path), &value)) return std::nullopt;  // "max", or no such file
  return value;
}

void LowerMemory(const std::string& path, CgroupLimits* limits) {
  const auto bytes = NumberIn(path);
  if (bytes.has_value() && *bytes > 0 && *bytes < kNoLimit) Lower(&limits->memory_bytes, *bytes);
}

void LowerCpus(double quota, double period, CgroupLimits* limits) {
  if (quota > 0 && period > 0) Lower(&limits->cpus, quota / period);
}

// Reads the files of one group. In version 1 a hierarchy has only the files of its controllers.
void ReadGroup(const std::string& group, CgroupLimits* limits) {
  LowerMemory(group + "/memory.max", limits);
  LowerMemory(group + "/memory.high", limits);
  LowerMemory(group + "/memory.limit_in_bytes", limits);
  const std::vector<std::string> quota_and_period =
      absl::StrSplit(FirstLine(group + "/cpu.max"), ' ');
  double quota = 0, period = 0;
  if (quota_and_period.size() == 2 && absl::SimpleAtod(quota_and_period[0], &quota) &&
      absl::SimpleAtod(quota_and_period[1], &period)) {
    LowerCpus(quota, period, limits);
  }
  LowerCpus(static_cast<double>(NumberIn(group + "/cpu.cfs_quota_us").value_or(0)),
            static_cast<double>(NumberIn(group + "/cpu.cfs_period_us").value_or(0)), limits);
  // In version 1 this is the limit of ancestor groups that a container does not see.
  for (const std::string& line : LinesOf(group + "/memory.stat")) {
    absl::string_view number = line;
    int64_t bytes = 0;
    if (absl::ConsumePrefix(&number, "hierarchical_memory_limit ") &&
        absl::SimpleAtoi(number, &bytes) && bytes > 0 && bytes < kNoLimit) {
      Lower(&limits->memory_bytes, bytes);
    }
  }
}

struct Mount {
  std::string root;   // the group that is mounted
  std::string point;  // the mount point
  bool version_2 = false;
  std::vector<std::string> controllers;  // version 1: controllers, among other options
};

// Format of a line: 36 35 98:0 ROOT POINT options optional… - TYPE source SUPER-OPTIONS
std::vector<Mount> Mounts(const std::string& root) {
  std::vector<Mount> mounts;
  for (const std::string& line : LinesOf(root + "/proc/self/mountinfo")) {
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> place = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves[1], ' ');
    if (place.size() < 5 || kind.size() < 3) continue;
    if (kind[0] != "cgroup" && kind[0] != "cgroup2") continue;
    mounts.push_back({place[3], place[4], kind[0] == "cgroup2", absl::StrSplit(kind[2], ',')});
  }
  return mounts;
}

bool IsMountOf(const Mount& mount, absl::string_view controllers) {
  if (controllers.empty()) return mount.version_2;
  if (mount.version_2) return false;
  for (const absl::string_view controller : absl::StrSplit(controllers, ',')) {
    for (const std::string& mounted : mount.controllers) {
      if (controller == mounted) return true;
    }
  }
  return false;
}

// Reads the groups from the process's group up to the mount point. In a container the path may be
// the host's; the mount then shows only its end.
void ReadUpwards(const std::string& root, const Mount& mount, absl::string_view path,
                 CgroupLimits* limits) {
  if (mount.root != "/" && !absl::ConsumePrefix(&path, mount.root)) path = "";
  if (absl::StrContains(path, "..")) path = "";  // a group outside of the namespace
  std::string below(absl::StripSuffix(path, "/"));
  for (;;) {
    ReadGroup(absl::StrCat(root, mount.point, below), limits);
    if (below.empty()) return;
    below.resize(below.rfind('/') == std::string::npos ? 0 : below.rfind('/'));
  }
}

int64_t MachineBytes() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? pages * size : 0;
}

int AllowedProcessors() {
  for (int most = 1024; most <= 1 << 20; most *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(
        CPU_ALLOC(static_cast<size_t>(most)), [](cpu_set_t* mask) { CPU_FREE(mask); });
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(most));
    if (set == nullptr) break;
    if (sched_getaffinity(0, bytes, set.get()) == 0) return CPU_COUNT_S(bytes, set.get());
  }
  return 1;
}

}  // namespace

CgroupLimits ReadCgroupLimits(const std::string& root) {
  CgroupLimits limits;
  const std::vector<Mount> mounts = Mounts(root);
  // Format of a line: HIERARCHY:CONTROLLERS:PATH. In version 2 CONTROLLERS is empty.
  for (const std::string& line : LinesOf(root + "/proc/self/cgroup")) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    for (const Mount& mount : mounts) {
      if (IsMountOf(mount, parts[1])) ReadUpwards(root, mount, parts[2], &limits);
    }
  }
  return limits;
}

int UsableThreads(const CgroupLimits& limits) {
  const int processors = AllowedProcessors();
  if (!limits.cpus.has_value() || *limits.cpus >= processors) return std::max(1, processors);
  return std::max(1, static_cast<int>(*limits.cpus));
}

int64_t DefaultMemoryLimit(const CgroupLimits& limits) {
  return DefaultMemoryLimit(limits, MachineBytes());
}

int64_t DefaultMemoryLimit(const CgroupLimits& limits, int64_t machine_bytes) {
  const int64_t of_machine = machine_bytes / 2;
  if (!limits.memory_bytes.has_value()) return of_machine;
  const int64_t of_group = *limits.memory_bytes / 3 * 2;
  return of_machine > 0 ? std::min(of_group, of_machine) : of_group;
}

}  // namespace backprop::ops
