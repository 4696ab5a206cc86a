// Names a call, so that its lines in logs, its error and the traces of other services can be found.
#ifndef BACKPROP_SERVER_RPC_CALL_CALL_IDENTITY_H_
#define BACKPROP_SERVER_RPC_CALL_CALL_IDENTITY_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/strings/string_view.h"

namespace backprop::rpc {

struct CallIdentity {
  // That of the metadata `x-request-id` if it is valid (IsRequestId), otherwise a new one.
  std::string request_id;
  // That of the metadata `traceparent` if it is valid, otherwise empty.
  std::string traceparent;
};

// Reads the metadata of a call, which copies it on first use: called only for calls of which
// something is written. Thread-compatible.
CallIdentity IdentityOf(const grpc::CallbackServerContext& call);

// Whether `text` has 1 to 128 characters of printable ASCII other than the space.
bool IsRequestId(absl::string_view text);

// The part of `text` that is a traceparent of W3C Trace Context (level 1): version, trace id,
// parent id and flags, 55 characters. Empty if it is not valid. A later version may add fields,
// which are left out.
absl::string_view TraceparentIn(absl::string_view text);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALL_IDENTITY_H_
