// Converts errors of this server to errors of gRPC.
#ifndef BACKPROP_SERVER_RPC_CALL_STATUS_H_
#define BACKPROP_SERVER_RPC_CALL_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"
#include "server/rpc/call/call_identity.h"

namespace backprop::rpc {

// The code, message and google.rpc details of an error. The message is valid UTF-8. The size is
// bounded (server/base/status.h), so that an error fits into the trailers that clients accept.
google::rpc::Status ToMessage(const absl::Status& status);

// The same as a gRPC status.
grpc::Status ToGrpc(const absl::Status& status);
// The same with google.rpc.RequestInfo: the request id and, as serving data, the traceparent.
grpc::Status ToGrpc(const absl::Status& status, const CallIdentity& identity);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_STATUS_H_
