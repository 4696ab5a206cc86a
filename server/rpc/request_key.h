// How the server recognises a retry of a request.
#ifndef BACKPROP_SERVER_RPC_REQUEST_KEY_H_
#define BACKPROP_SERVER_RPC_REQUEST_KEY_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/statusor.h"
#include "server/records/request_key.h"

namespace backprop::rpc {

// The request id with a hash of the method and the content; empty without a request id.
// INVALID_ARGUMENT about `request_id` if it is not valid.
absl::StatusOr<records::RequestKey> RequestKeyOf(const char* method, const std::string& request_id,
                                                 const google::protobuf::Message& request);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_REQUEST_KEY_H_
