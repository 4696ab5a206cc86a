// Reads the head of an HTTP request as a call of the Connect protocol
// (connectrpc.com/docs/protocol) or of gRPC-Web
// (github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md).
#ifndef BACKPROP_SERVER_HTTP_PROTOCOL_H_
#define BACKPROP_SERVER_HTTP_PROTOCOL_H_

#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/http/errors.h"
#include "server/http/methods.h"

namespace backprop::http {

// The line and the headers of a request.
struct RequestHead {
  std::string method;  // "POST"
  std::string path;    // "/backprop.v1.TrainingService/Step"
  std::string query;   // without the question mark
  Metadata headers;    // names in lower case, in the order of the request

  // The values of a header, with commas between them; empty if there is none.
  std::string Get(absl::string_view name) const;
  bool Has(absl::string_view name) const;
};

// The line and the headers of a response.
struct ResponseHead {
  int status = 200;
  Metadata headers;
};

enum class Protocol { kConnectUnary, kConnectStream, kGrpcWeb };
enum class Codec { kBinary, kJson };

// How one call is written.
struct CallFormat {
  Protocol protocol = Protocol::kConnectUnary;
  Codec codec = Codec::kBinary;
  bool is_base64 = false;      // all bytes of both bodies: application/grpc-web-text
  bool gzip_request = false;   // the body, or those messages of a stream that say so
  bool gzip_response = false;  // the caller accepts it

  // The content type of the response, and of the request.
  std::string ContentType() const;
};

// A call as the head describes it.
struct CallHead {
  const Method* method = nullptr;
  CallFormat format;
  std::optional<absl::Duration> timeout;
  Metadata metadata;                   // for gRPC; values of "-bin" are decoded
  std::optional<std::string> message;  // of a GET; without it the message is the body
};

// A request that is no call. The protocols have different forms of an error; `format` is unset if
// not even the protocol is known.
struct Refusal {
  int http_status = 400;
  grpc::Status status;
  std::optional<CallFormat> format;
  Metadata headers;  // further ones of the response
};

// `method` is that of the path.
std::variant<CallHead, Refusal> ReadCallHead(const RequestHead& head, const Method* method);

// The parameters of a query, decoded; the first one of each name. INVALID_ARGUMENT if a value
// cannot be decoded.
absl::StatusOr<std::map<std::string, std::string>> ParseQuery(absl::string_view query);

// Metadata of gRPC as headers: values of "-bin" are encoded, and what is not for the caller, such
// as the names of gRPC's own, is left out. `prefix` goes before each name.
template <class Multimap>
Metadata ToHeaders(const Multimap& metadata, absl::string_view prefix = "");
// The same for one pair; false if it is left out.
bool ToHeader(absl::string_view key, absl::string_view value, absl::string_view prefix,
              Metadata* headers);

template <class Multimap>
Metadata ToHeaders(const Multimap& metadata, absl::string_view prefix) {
  Metadata headers;
  for (const auto& [key, value] : metadata) {
    ToHeader({key.data(), key.size()}, {value.data(), value.size()}, prefix, &headers);
  }
  return headers;
}

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_PROTOCOL_H_
