// How the server recognises a retry of a request.
#ifndef BACKPROP_SERVER_RPC_REQUEST_KEY_H_
#define BACKPROP_SERVER_RPC_REQUEST_KEY_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/records/request_key.h"

namespace backprop::rpc {

// The request id with a hash of the method and the content; empty without a request id.
// INVALID_ARGUMENT about `request_id` if it is not valid.
absl::StatusOr<records::RequestKey> RequestKeyOf(const char* method, const std::string& request_id,
                                                 const google::protobuf::Message& request);

// The same for requests whose responses are remembered for all models or datasets together, not for
// one of them. Equal ids of two projects are different requests.
absl::StatusOr<records::RequestKey> ScopedRequestKeyOf(absl::string_view project,
                                                       const char* method,
                                                       const std::string& request_id,
                                                       const google::protobuf::Message& request);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_REQUEST_KEY_H_
