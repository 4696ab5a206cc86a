// What the system allows the process: open files, threads, address space.
#ifndef BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_
#define BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace backprop::ops {

// How the open files that are allowed are shared out.
struct Descriptors {
  int64_t allowed = 0;
  // Connections get descriptors below this number; the rest is for the store, files and logs.
  int64_t for_connections = 0;
  // Connections at once, when the operator does not say.
  int64_t max_connections = 0;
};

// The shares of `allowed` open files.
Descriptors ShareDescriptors(int64_t allowed);

// Raises the soft limit of open files to the hard one, and shares them out.
Descriptors RaiseDescriptorLimit();

// Whether a server can start within the limits: UNAVAILABLE names the first that is too low, and
// how to raise it. gRPC and RocksDB would end the process in the middle of the start. Starts as
// many threads as a server with `compute_threads` needs, and ends them.
absl::Status CheckSystemLimits(const Descriptors& descriptors, int compute_threads);

// While it lives, abort() writes one line and ends the process with status 1: what a library does
// when the system refuses it something that CheckSystemLimits does not know of.
class AbortIsAFailedStart {
 public:
  AbortIsAFailedStart();
  ~AbortIsAFailedStart();
  AbortIsAFailedStart(const AbortIsAFailedStart&) = delete;
  AbortIsAFailedStart& operator=(const AbortIsAFailedStart&) = delete;
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SYSTEM_LIMITS_H_
