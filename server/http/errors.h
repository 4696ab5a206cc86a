// The end of a call as the protocols of HTTP write it.
#ifndef BACKPROP_SERVER_HTTP_ERRORS_H_
#define BACKPROP_SERVER_HTTP_ERRORS_H_

#include <grpcpp/support/status.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace backprop::http {

// Names in lower case, with values as they are sent: those of "-bin" are base64.
using Metadata = std::vector<std::pair<std::string, std::string>>;

// "invalid_argument"
const char* ConnectCode(grpc::StatusCode code);
// The status of a unary response of the Connect protocol.
int HttpStatus(grpc::StatusCode code);

// {"code": …, "message": …, "details": […]}. `status` must not be OK.
std::string ConnectError(const grpc::Status& status);
// The last message of a stream of the Connect protocol.
std::string ConnectEndOfStream(const grpc::Status& status, const Metadata& trailers);
// The trailers of gRPC-Web, as lines of a head.
std::string GrpcWebTrailers(const grpc::Status& status, const Metadata& trailers);

// An error of this folder as one of gRPC, with its details.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_ERRORS_H_
