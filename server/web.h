// What the server serves over HTTP: its RPCs, and pages for probes and metrics.
#ifndef BACKPROP_SERVER_WEB_H_
#define BACKPROP_SERVER_WEB_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/http/gateway.h"
#include "server/ops/config.h"
#include "server/rpc/server.h"
#include "server/rpc/sockets.h"
#include "server/rpc/tls.h"

namespace backprop {

// The sockets of --http. Errors: those of rpc::ListenOn.
absl::StatusOr<std::vector<rpc::ListeningSockets>> OpenHttp(const ops::Config& config);

// Null if there are no sockets. `limits` are those of the server; `tls` may be null. The result
// must be stopped before the server is destroyed.
std::unique_ptr<http::Gateway> ServeHttp(const ops::Config& config,
                                         const rpc::ServerOptions& limits, rpc::Tls* tls,
                                         std::vector<rpc::ListeningSockets> listening,
                                         rpc::Server* server);

}  // namespace backprop

#endif  // BACKPROP_SERVER_WEB_H_
