// Metrics of the process, under the names that all Prometheus clients use.
#ifndef BACKPROP_SERVER_METRICS_PROCESS_METRICS_H_
#define BACKPROP_SERVER_METRICS_PROCESS_METRICS_H_

#include <string>

#include "server/metrics/page.h"

namespace backprop::metrics {

// Adds process_cpu_seconds_total, process_resident_memory_bytes, process_virtual_memory_bytes,
// process_open_fds, process_max_fds, process_threads and process_start_time_seconds, as read from
// below `proc`. Leaves out what cannot be read.
void AddProcess(Page* page, const std::string& proc = "/proc");

}  // namespace backprop::metrics

#endif  // BACKPROP_SERVER_METRICS_PROCESS_METRICS_H_
