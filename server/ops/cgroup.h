// What the system lets this process have: limits of its cgroups, processors, memory.
#ifndef BACKPROP_SERVER_OPS_CGROUP_H_
#define BACKPROP_SERVER_OPS_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>

namespace backprop::ops {

struct CgroupLimits {
  std::optional<int64_t> memory_bytes;  // the smallest limit from the process's cgroup to the root
  std::optional<double> cpus;           // the smallest quota, in processors
};

// Reads cgroups of version 1 and 2, mounted together or alone, from the files below `root`, which
// is "" for the system's own: proc/self/cgroup, proc/self/mountinfo, and what they point to. What
// cannot be read or understood sets no limit. Pure but for the files.
CgroupLimits ReadCgroupLimits(const std::string& root = "");

// Threads that can compute at once: processors that this process may run on, and not more than
// `limits.cpus`, rounded down, because a group that has used up its quota stops as a whole. At
// least 1.
int UsableThreads(const CgroupLimits& limits);

// A memory limit for the server: two thirds of the cgroup's, so that a resident size of 1.5 times
// our limit still fits; or half of the machine's memory, if that is less.
int64_t DefaultMemoryLimit(const CgroupLimits& limits);
// The same on a machine with so much memory.
int64_t DefaultMemoryLimit(const CgroupLimits& limits, int64_t machine_bytes);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_CGROUP_H_
