// System limits of the process: open files, threads, address space, executable memory.
#ifndef BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_
#define BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace backprop::ops {

// The division of the allowed open files.
struct Descriptors {
  int64_t allowed = 0;
  // Connections use descriptors below this number; the others are for the store, files and logs.
  int64_t for_connections = 0;
  // Default for the number of concurrent connections.
  int64_t max_connections = 0;
};

// Divides `allowed` open files.
Descriptors ShareDescriptors(int64_t allowed);

// Raises the soft limit of open files to the hard limit, and divides it.
Descriptors RaiseDescriptorLimit();

// Checks whether a server can start within the system limits. UNAVAILABLE names the first limit
// that is too low and how to raise it; without the check, gRPC and RocksDB abort the process during
// the start. Temporarily starts as many threads as a server with `compute_threads` needs.
absl::Status CheckSystemLimits(const Descriptors& descriptors, int compute_threads);

// Whether memory may be made executable after it was written. oneDNN compiles its kernels into such
// memory; without it large products of float32 models are computed in float64, which takes longer.
bool ExecutableMemoryIsAllowed();

// While an object of this class exists, abort() writes one line and exits with status 1. Libraries
// abort if the system denies them a resource that CheckSystemLimits() does not check. At most one
// object at a time.
class AbortIsAFailedStart {
 public:
  AbortIsAFailedStart();
  ~AbortIsAFailedStart();
  AbortIsAFailedStart(const AbortIsAFailedStart&) = delete;
  AbortIsAFailedStart& operator=(const AbortIsAFailedStart&) = delete;
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_
