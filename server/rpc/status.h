// From the errors of this server to those of gRPC.
#ifndef BACKPROP_SERVER_RPC_STATUS_H_
#define BACKPROP_SERVER_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace backprop::rpc {

// Code, message and google.rpc details of an error: valid UTF-8, of a bounded size
// (session/status.h).
google::rpc::Status ToMessage(const absl::Status& status);

// The same canonical code and message, with google.rpc details.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_STATUS_H_
