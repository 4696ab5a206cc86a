// What operators see of a server: metrics, health, audit log, GetServerStatus.
#ifndef BACKPROP_SERVER_MONITOR_H_
#define BACKPROP_SERVER_MONITOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/http/http_listener.h"
#include "server/metrics/server_metrics.h"
#include "server/ops/audit_log.h"
#include "server/ops/auth_file_watch.h"
#include "server/ops/config.h"
#include "server/rpc/context.h"
#include "server/rpc/introspection.h"
#include "server/rpc/server.h"
#include "server/rpc/sockets.h"
#include "server/stores.h"

namespace backprop {

// What operators see of the calls.
struct Monitor {
  std::unique_ptr<ops::AuditLog> audit;  // null: there is none
  rpc::ListeningSockets metrics;         // no sockets: metrics are not served
};

absl::StatusOr<Monitor> OpenMonitor(const ops::Config& config);

// `audit` may be null; otherwise it must outlive the result.
rpc::Calls CallsFor(const ops::Config& config, ops::AuditLog* audit);

// Where metrics and health are read from. All arguments must outlive the result; `auth_file` may be
// null.
metrics::Sources SourcesOf(const Monitor& monitor, rpc::Context* context,
                           ops::AuthFileWatch* auth_file, rpc::Server* server,
                           WritableServer* writable);

// Null if metrics are not served. `sources` must outlive the result.
std::unique_ptr<http::HttpListener> ServeMetrics(Monitor* monitor, const metrics::Sources& sources);

// What operators can ask for. `sources` must outlive the result.
rpc::Introspection IntrospectionOf(const ops::Config& config, const metrics::Sources& sources);

}  // namespace backprop

#endif  // BACKPROP_SERVER_MONITOR_H_
