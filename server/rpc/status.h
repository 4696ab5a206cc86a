// From the errors of this server to those of gRPC.
#ifndef BACKPROP_SERVER_RPC_STATUS_H_
#define BACKPROP_SERVER_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace backprop::rpc {

// The same canonical code and message, with google.rpc details.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_STATUS_H_
