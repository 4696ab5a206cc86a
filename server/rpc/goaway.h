// GOAWAY: asks clients to open other connections for new calls.
#ifndef BACKPROP_SERVER_RPC_GOAWAY_H_
#define BACKPROP_SERVER_RPC_GOAWAY_H_

#include <grpcpp/server_builder.h>

#include "absl/time/time.h"

namespace backprop::rpc {

// gRPC sends a graceful GOAWAY, and continues to serve, only when a connection reaches its maximum
// age; its Shutdown answers calls that the client has already sent with CANCELLED, which clients do
// not retry. Therefore this function gives the connections of the server a maximum age that cannot
// be mistaken for another time, and makes gRPC use an event engine that recognises the timer of
// that age. The timer ends after `age`, varied by up to 10 %, or when a Goaway is created.
//
// `age` applies to all servers of the process. Call before the server is built. Connections within
// the process have no age and get no GOAWAY.
//
// With another version of gRPC than 1.51, whose event engines have another interface, only `age` is
// set, and a Goaway does nothing.
void SetMaxConnectionAge(absl::Duration age, grpc::ServerBuilder* builder);

// Sends a graceful GOAWAY to every connection of this process, and as long as the object exists to
// every new one. The client opens another connection for new calls, and loses none: the server
// serves those that it has sent in the meantime. The connection is closed when its last call has
// ended. Thread-safe.
class Goaway {
 public:
  Goaway();
  ~Goaway();
  Goaway(const Goaway&) = delete;
  Goaway& operator=(const Goaway&) = delete;

  // Whether the version of gRPC is one for which it works.
  static bool Works();
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_GOAWAY_H_
