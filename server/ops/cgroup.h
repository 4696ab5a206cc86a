// Resources available to this process: cgroup limits, processors, memory.
#ifndef BACKPROP_SERVER_OPS_CGROUP_H_
#define BACKPROP_SERVER_OPS_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>

namespace backprop::ops {

struct CgroupLimits {
  std::optional<int64_t> memory_bytes;  // smallest limit between the process's cgroup and the root
  std::optional<double> cpus;           // smallest quota, in processors
};

// Reads limits of cgroups of versions 1 and 2, mounted together or alone, from proc/self/cgroup,
// proc/self/mountinfo and the files that they refer to, below `root`; "" is the system's root. A
// file that cannot be read or parsed sets no limit. Thread-safe.
CgroupLimits ReadCgroupLimits(const std::string& root = "");

// Returns the number of threads that can compute concurrently: the processors available to this
// process, at most `limits.cpus` rounded down, because a group that has used up its quota stops as
// a whole. At least 1.
int UsableThreads(const CgroupLimits& limits);

// Returns the default memory limit of the server: two thirds of the cgroup's limit, so that a
// resident size of 1.5 times the server's limit still fits, but at most half of the machine's
// memory.
int64_t DefaultMemoryLimit(const CgroupLimits& limits);
// The same for a machine with `machine_bytes` of memory.
int64_t DefaultMemoryLimit(const CgroupLimits& limits, int64_t machine_bytes);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_CGROUP_H_
