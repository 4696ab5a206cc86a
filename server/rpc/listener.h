// The accept loop. gRPC 1.51's own ends for ever when accept() fails once, as it does when
// descriptors run out.
#ifndef BACKPROP_SERVER_RPC_LISTENER_H_
#define BACKPROP_SERVER_RPC_LISTENER_H_

#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "server/rpc/sockets.h"

namespace backprop::rpc {

// How many connections there may be.
struct ConnectionLimits {
  // Connections open at once.
  int64_t max_connections = 10'000;
  // A connection whose descriptor is not below this number is refused. The system hands out the
  // lowest free number, so that what lies above stays free for the store, files and logs.
  int max_descriptor = 1 << 20;
  // TCP gives a connection up when its peer has acknowledged nothing for so long. 0: the system's
  // default, some 15 minutes.
  absl::Duration unacknowledged = absl::ZeroDuration();
};

// Takes connections from listening sockets and hands them to gRPC, on one thread of its own. At a
// limit a connection is accepted and closed at once, so that its client learns of it; one line a
// period says how many. When there is room again the next connection is served.
//
//     Listener listener(std::move(sockets), std::move(acceptor), limits, on_warning);
//     server = builder.BuildAndStart();
//     listener.Start();           // not before gRPC's server: it would lose connections
//     …
//     listener.Stop();            // no more connections
//     listener.EndConnections(flush);
//     server->Shutdown();
//
// gRPC owns the descriptor of a connection and closes it without telling. The table of connections
// keeps the identity of each socket, and is swept when the limit is reached. New limits, such as
// one for each peer, belong into Admit.
class Listener {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  Listener(std::vector<ListeningSockets> listening, std::unique_ptr<Acceptor> acceptor,
           ConnectionLimits limits, std::function<void(const std::string&)> on_warning);
  ~Listener();  // stops

  // The two descriptors that it needs beside its sockets could be had.
  bool ready() const { return wake_.open() && spare_.open(); }

  void Start();
  // Closes the listening sockets. Connections go on.
  void Stop();
  // After Stop. Waits, for at most `flush`, until what was written has reached the peers, then ends
  // every connection: calls on it end with UNAVAILABLE at their clients. gRPC's own Shutdown would
  // answer calls that arrive meanwhile with CANCELLED, which clients do not retry.
  void EndConnections(absl::Duration flush);

 private:
  // Which socket a descriptor is.
  struct Identity {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const Identity& other) const {
      return device == other.device && inode == other.inode;
    }
  };
  static Identity IdentityOf(int fd);

  void Work();
  void TakeFrom(int listening_fd);
  // Null if the connection is welcome, or else the reason for the log.
  const char* Admit(int fd);
  // Accepts one connection with the spare descriptor and closes it; false if there was none.
  bool RefuseWithSpare(int listening_fd);
  // Forgets the connections that gRPC has closed.
  void Sweep();
  void Refused(const char* reason);
  void ReportRefusals();

  std::vector<ListeningSockets> listening_;
  const std::unique_ptr<Acceptor> acceptor_;
  const ConnectionLimits limits_;
  const std::function<void(const std::string&)> on_warning_;
  Descriptor wake_;   // an eventfd: Stop writes to it
  Descriptor spare_;  // is closed for a moment to refuse a connection when no descriptor is left
  std::thread thread_;

  // Of the thread while it runs, then of Stop's caller.
  std::unordered_map<int, Identity> connections_;
  absl::Time next_sweep_ = absl::InfinitePast();
  int64_t refused_ = 0;           // since the last line
  const char* reason_ = nullptr;  // of the last refusal
  absl::Time last_refusal_ = absl::InfinitePast();
  absl::Time next_report_ = absl::InfinitePast();
  bool refusing_ = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_LISTENER_H_
