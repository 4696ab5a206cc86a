// What requests lead to: calls of RPCs, and answers without a call.
#ifndef BACKPROP_SERVER_HTTP_EXCHANGES_H_
#define BACKPROP_SERVER_HTTP_EXCHANGES_H_

#include <grpcpp/generic/generic_stub.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "server/http/connection.h"
#include "server/http/http_listener.h"
#include "server/http/memory.h"
#include "server/http/protocol.h"

namespace backprop::http {

// What all calls share. Thread-safe.
struct CallEnvironment {
  grpc::GenericStub* stub;
  // Maximum size of a message, as it arrives, decompressed, and in binary.
  size_t max_message_bytes;
  Memory* memory;
};

// One call. `metadata` is added to that of the head, and `headers` to those of the response.
struct CallSetup {
  CallEnvironment* environment;
  std::shared_ptr<Connection> connection;
  CallHead head;
  Metadata metadata;
  Metadata headers;
};

// Connect, one request and one response.
std::shared_ptr<Exchange> MakeUnaryExchange(CallSetup setup);
// Connect with streams, and gRPC-Web.
std::shared_ptr<Exchange> MakeStreamExchange(CallSetup setup);
// Responds with `head` and `body`, whatever the request's body is.
std::shared_ptr<Exchange> MakeFixedExchange(std::shared_ptr<Connection> connection,
                                            ResponseHead head, std::string body);
// An error in the form of its protocol.
std::shared_ptr<Exchange> MakeRefusal(std::shared_ptr<Connection> connection,
                                      const Refusal& refusal, const Metadata& headers);

// A page that is made of the response to a call, which has the rights of the request's caller.
struct CallPage {
  std::string method;   // path
  std::string request;  // binary
  std::function<Page(const grpc::Status& status, const std::string& response)> render;
};
std::shared_ptr<Exchange> MakePageExchange(CallEnvironment* environment,
                                           std::shared_ptr<Connection> connection,
                                           const CallPage* page, Metadata metadata);

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_EXCHANGES_H_
