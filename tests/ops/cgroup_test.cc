#include "server/ops/cgroup.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>

#include "tests/temporary_directory.h"

namespace backprop::ops {
namespace {

constexpr char kV1NoLimit[] = "9223372036854771712";

// Files as the kernel presents them, in a directory of the test.
class CgroupTest : public testing::Test {
 protected:
  CgroupLimits Read(const std::map<std::string, std::string>& files) {
    for (const auto& [path, text] : files) {
      const std::filesystem::path file = folder_.path() + path;
      std::filesystem::create_directories(file.parent_path());
      std::ofstream(file) << text << "\n";
    }
    return ReadCgroupLimits(folder_.path());
  }
  const TemporaryDirectory folder_;
};

const std::string kV2Mount = "35 31 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";
const std::string kV1Mounts =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";

TEST_F(CgroupTest, NothingToReadIsNoLimit) {
  const CgroupLimits limits = Read({});
  EXPECT_EQ(limits.memory_bytes, std::nullopt);
  EXPECT_EQ(limits.cpus, std::nullopt);
}

TEST_F(CgroupTest, Version2) {
  const CgroupLimits limits = Read({{"/proc/self/mountinfo", kV2Mount},
                                    {"/proc/self/cgroup", "0::/app"},
                                    {"/sys/fs/cgroup/app/memory.max", "1073741824"},
                                    {"/sys/fs/cgroup/app/cpu.max", "150000 100000"}});
  EXPECT_EQ(limits.memory_bytes, 1073741824);
  EXPECT_EQ(limits.cpus, 1.5);
}

// In a container with its own namespace, the group is the root of the mount.
TEST_F(CgroupTest, Version2InANamespace) {
  const CgroupLimits limits = Read({{"/proc/self/mountinfo", kV2Mount},
                                    {"/proc/self/cgroup", "0::/"},
                                    {"/sys/fs/cgroup/memory.max", "268435456"},
                                    {"/sys/fs/cgroup/cpu.max", "max 100000"}});
  EXPECT_EQ(limits.memory_bytes, 268435456);
  EXPECT_EQ(limits.cpus, std::nullopt);
}

TEST_F(CgroupTest, TheSmallestLimitOnTheWayToTheRootCounts) {
  const CgroupLimits limits = Read({{"/proc/self/mountinfo", kV2Mount},
                                    {"/proc/self/cgroup", "0::/a/b/c"},
                                    {"/sys/fs/cgroup/a/b/c/memory.max", "max"},
                                    {"/sys/fs/cgroup/a/b/c/cpu.max", "max 100000"},
                                    {"/sys/fs/cgroup/a/b/memory.max", "300000000"},
                                    {"/sys/fs/cgroup/a/memory.max", "200000000"},
                                    {"/sys/fs/cgroup/a/cpu.max", "400000 100000"},
                                    {"/sys/fs/cgroup/a/b/cpu.max", "50000 100000"},
                                    {"/sys/fs/cgroup/ab/memory.max", "1000"},
                                    {"/sys/fs/cgroup/a/b/c/d/memory.max", "1000"}});
  EXPECT_EQ(limits.memory_bytes, 200000000);
  EXPECT_EQ(limits.cpus, 0.5);
}

// Above memory.high the kernel slows the group down, so it is a limit too.
TEST_F(CgroupTest, Version2High) {
  const CgroupLimits limits = Read({{"/proc/self/mountinfo", kV2Mount},
                                    {"/proc/self/cgroup", "0::/app"},
                                    {"/sys/fs/cgroup/app/memory.max", "1073741824"},
                                    {"/sys/fs/cgroup/app/memory.high", "805306368"}});
  EXPECT_EQ(limits.memory_bytes, 805306368);
}

TEST_F(CgroupTest, Version1) {
  const CgroupLimits limits =
      Read({{"/proc/self/mountinfo", kV1Mounts},
            {"/proc/self/cgroup", "4:memory:/m/n\n2:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/"},
            {"/sys/fs/cgroup/memory/m/n/memory.limit_in_bytes", kV1NoLimit},
            {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "536870912"},
            {"/sys/fs/cgroup/memory/memory.limit_in_bytes", kV1NoLimit},
            {"/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "200000"},
            {"/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000"},
            {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1"},
            {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"}});
  EXPECT_EQ(limits.memory_bytes, 536870912);
  EXPECT_EQ(limits.cpus, 2.0);
}

TEST_F(CgroupTest, Version1WithoutLimits) {
  const CgroupLimits limits =
      Read({{"/proc/self/mountinfo", kV1Mounts},
            {"/proc/self/cgroup", "4:memory:/\n2:cpu,cpuacct:/"},
            {"/sys/fs/cgroup/memory/memory.limit_in_bytes", kV1NoLimit},
            {"/sys/fs/cgroup/memory/memory.stat",
             std::string("cache 1\nhierarchical_memory_limit ") + kV1NoLimit},
            {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1"},
            {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"}});
  EXPECT_EQ(limits.memory_bytes, std::nullopt);
  EXPECT_EQ(limits.cpus, std::nullopt);
}

// Docker without a namespace: the path is the host's, and the group's own directory is mounted.
// Only memory.stat shows the limits of the groups above.
TEST_F(CgroupTest, Version1InAContainer) {
  const CgroupLimits limits = Read(
      {{"/proc/self/mountinfo",
        "35 31 0:32 /docker/0af3 /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory"},
       {"/proc/self/cgroup", "4:memory:/docker/0af3"},
       {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824"},
       {"/sys/fs/cgroup/memory/memory.stat", "rss 5\nhierarchical_memory_limit 629145600\nrss 1"}});
  EXPECT_EQ(limits.memory_bytes, 629145600);
}

TEST_F(CgroupTest, WhatCannotBeUnderstoodIsNoLimit) {
  const CgroupLimits limits =
      Read({{"/proc/self/mountinfo", kV2Mount + "\nnonsense\n- - -\n1 2 3 4 5 -"},
            {"/proc/self/cgroup", "nonsense\n0::/../outside\n::\n0::/app"},
            {"/sys/fs/cgroup/app/memory.max", "a lot"},
            {"/sys/fs/cgroup/app/cpu.max", "0 0"},
            {"/sys/fs/cgroup/memory.max", "-5"},
            {"/sys/fs/outside/memory.max", "1000"}});
  EXPECT_EQ(limits.memory_bytes, std::nullopt);
  EXPECT_EQ(limits.cpus, std::nullopt);
}

TEST(UsableThreadsTest, FollowsQuotaAndMask) {
  EXPECT_EQ(UsableThreads({{}, 0.2}), 1);
  EXPECT_EQ(UsableThreads({{}, 1.9}), 1) << "rounded down: a group beyond its quota stops";
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  const int allowed = CPU_COUNT(&mask);
  EXPECT_EQ(UsableThreads({}), allowed);
  EXPECT_EQ(UsableThreads({{}, 1e6}), allowed);
  if (allowed > 1) EXPECT_EQ(UsableThreads({{}, allowed - 0.5}), allowed - 1);
  // Only one processor for this thread.
  cpu_set_t one;
  CPU_ZERO(&one);
  int first = 0;
  while (!CPU_ISSET(first, &mask)) ++first;
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(UsableThreads({}), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof mask, &mask), 0);
}

TEST(DefaultMemoryLimitTest, IsAShareOfTheGroupAndOfTheMachine) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  EXPECT_EQ(DefaultMemoryLimit({}, 16 * kGiB), 8 * kGiB);
  EXPECT_EQ(DefaultMemoryLimit({3 * kGiB, {}}, 16 * kGiB), 2 * kGiB);
  EXPECT_EQ(DefaultMemoryLimit({30 * kGiB, {}}, 16 * kGiB), 8 * kGiB);
  EXPECT_EQ(DefaultMemoryLimit({3 * kGiB, {}}, 0), 2 * kGiB);
}

// The kernel's own files, if this process may create a group: 0 if a child in it read `expected`.
int ReadInGroup(const std::string& group,
                const std::function<bool(const CgroupLimits&)>& expected) {
  const pid_t child = fork();
  if (child == 0) {
    std::ofstream(group + "/cgroup.procs") << getpid() << std::endl;
    _exit(expected(ReadCgroupLimits()) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(RealCgroupTest, ALimitThatTheKernelKeepsIsFound) {
  int groups = 0;
  for (const char* base : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
    const std::string group = std::string(base) + "/backprop-test-" + std::to_string(getpid());
    std::error_code error;
    if (!std::filesystem::create_directory(group, error) || error) continue;
    const std::string below = group + "/below";
    std::filesystem::create_directory(below, error);
    bool set = false;
    for (const char* file : {"/memory.limit_in_bytes", "/memory.max"}) {
      if (!std::filesystem::exists(group + file)) continue;
      std::ofstream limit(group + file);
      limit << (100 << 20) << std::endl;
      set = set || limit.good();
    }
    if (set) {
      ++groups;
      EXPECT_EQ(ReadInGroup(below,
                            [](const CgroupLimits& limits) {
                              return limits.memory_bytes == int64_t{100} << 20;
                            }),
                0)
          << group;
    }
    std::filesystem::remove(below, error);
    std::filesystem::remove(group, error);
  }
  EXPECT_GT(groups, 0)
      << "no control group can be made here: run this as root, where /sys/fs/cgroup can be written";
}

}  // namespace
}  // namespace backprop::ops
