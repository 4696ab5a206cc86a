// The client side of `backpropd --health-check`.
#ifndef BACKPROP_SERVER_RPC_HEALTH_CHECK_H_
#define BACKPROP_SERVER_RPC_HEALTH_CHECK_H_

#include <optional>
#include <string>

#include "server/rpc/tls.h"

namespace backprop::rpc {

// For the health check of a container: asks the server at `address`, for at most 2 s, and prints
// its answer. Returns the exit status: 0 if it is serving. With `tls`, the server's files, it
// presents the server's own certificate, in case that the server requires one.
int CheckHealth(const std::string& address, const std::optional<TlsFiles>& tls);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_HEALTH_CHECK_H_
