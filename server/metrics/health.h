// The health of a server with reasons, for operators. The health service reports it without.
#ifndef BACKPROP_SERVER_METRICS_HEALTH_H_
#define BACKPROP_SERVER_METRICS_HEALTH_H_

#include <vector>

#include "server/metrics/server_metrics.h"
#include "server/rpc/introspection.h"

namespace backprop::metrics {

// Health of the server as a whole, of rpc::kWritesHealth, and with an authenticator of
// rpc::kAuthFileHealth, in this order. Thread-safe.
std::vector<rpc::Health> HealthOf(const Sources& sources);

}  // namespace backprop::metrics

#endif  // BACKPROP_SERVER_METRICS_HEALTH_H_
