// The accept loop. The loop of gRPC 1.51 stops permanently when accept() fails once, for example
// because no descriptor is free.
#ifndef BACKPROP_SERVER_RPC_LISTENER_H_
#define BACKPROP_SERVER_RPC_LISTENER_H_

#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "server/base/counters.h"
#include "server/rpc/sockets.h"

namespace backprop::rpc {

// Limits on connections.
struct ConnectionLimits {
  // Maximum number of open connections.
  int64_t max_connections = 10'000;
  // Maximum number of open connections of one address: of an IPv4 address, or of the 2^64 addresses
  // of IPv6 with the same first 64 bits, which one machine can have. Connections to Unix sockets do
  // not count. -1: a quarter of `max_connections`, at least 16.
  int64_t max_connections_per_peer = -1;
  // A connection is refused unless its descriptor is below this number. The system assigns the
  // lowest free number, so the numbers from this one up stay free for the store, files and logs.
  int max_descriptor = 1 << 20;
  // TCP closes a connection when its peer has not acknowledged sent data for this time. 0: the
  // system's default, approximately 15 minutes.
  absl::Duration unacknowledged = absl::ZeroDuration();
};

// Where connections come from, and what gRPC does with them: an acceptor has the credentials, TLS
// or clear text. Endpoints may share an acceptor.
struct Endpoint {
  ListeningSockets listening;
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
};

// Accepts connections and passes them to gRPC, on its own thread. When a limit is reached, it
// accepts a connection and closes it immediately, so that the client gets an error. It recovers
// automatically: the next connection within the limits is served. `on_warning` gets one line per 10
// seconds with the number of refused connections, on the thread of the listener. Start, Stop,
// WaitForClients and EndConnections must be called by one thread at a time.
//
//     Listener listener(std::move(endpoints), limits, on_warning);
//     server = builder.BuildAndStart();
//     listener.Start();           // after gRPC's server is started: earlier connections are lost
//     …
//     listener.Stop();            // accepts no more connections
//     listener.WaitForClients(timeout);
//     listener.EndConnections(flush);
//     server->Shutdown();
//
// gRPC owns the descriptor of a connection and closes it without a notification. The table of
// connections therefore stores the identity of each socket; entries of closed sockets are removed
// when a limit is reached. A new limit should be added to Admit.
class Listener {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  Listener(std::vector<Endpoint> endpoints, ConnectionLimits limits,
           std::function<void(const std::string&)> on_warning);
  ~Listener();  // calls Stop

  // Whether the two descriptors that the listener needs for itself could be opened. If not, it must
  // not be started.
  bool ready() const { return wake_.open() && spare_.open(); }

  // Call once, after gRPC's server is started.
  void Start();
  // Waits for the thread and closes the listening sockets. Accepted connections stay open.
  void Stop();
  // Call after Stop. Waits, for at most `timeout`, until the clients have closed all connections.
  void WaitForClients(absl::Duration timeout);
  // Call after Stop. Waits, for at most `flush`, until the peers have acknowledged all sent data,
  // then ends every connection, which takes at most one more second. Clients get UNAVAILABLE for
  // the calls on it. gRPC's own Shutdown would respond to calls that arrive in the meantime with
  // CANCELLED, which clients do not retry.
  void EndConnections(absl::Duration flush);

  // Connections since the start. Thread-safe.
  int64_t accepted() const { return all_accepted_.value(); }
  int64_t refused() const { return all_refused_.value(); }
  // Open connections. One that was closed may count for kCountSeconds. Thread-safe.
  static constexpr int kCountSeconds = 2;
  int64_t open_connections() const { return open_.load(std::memory_order_relaxed); }

 private:
  // Identifies the socket of a descriptor. All zero: unknown.
  struct Identity {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const Identity& other) const {
      return device == other.device && inode == other.inode;
    }
  };
  static Identity IdentityOf(int fd);

  struct Connection {
    Identity identity;
    std::string peer;  // by which connections are counted; empty: not counted
  };

  void Work();
  void TakeFrom(int listening_fd, Acceptor* acceptor);
  // Returns an empty string if the connection is within the limits, otherwise the reason for the
  // log.
  std::string Admit(int fd, const std::string& peer);
  bool FitsPeer(const std::string& peer) const;
  // Adds a connection to the table, and removes it.
  void Remember(int fd, const std::string& peer);
  void Forget(std::unordered_map<int, Connection>::iterator known);
  // Closes the spare descriptor, accepts one connection, and closes it. False if none was accepted.
  bool RefuseWithSpare(int listening_fd);
  // Removes the connections that gRPC has closed from the table. Does nothing before next_sweep_.
  void Sweep();
  // Calls shutdown() for each open connection, with the direction that `how` returns for its
  // descriptor.
  template <class How>
  void ShutDown(How how);
  void Refused(std::string reason);
  // Publishes the number of open connections.
  void Count();
  void ReportRefusals();

  std::vector<Endpoint> endpoints_;
  const ConnectionLimits limits_;
  const std::function<void(const std::string&)> on_warning_;
  Descriptor wake_;   // an eventfd: Stop writes to it
  Descriptor spare_;  // freed for a moment to refuse a connection when no descriptor is left
  std::thread thread_;
  base::Counter all_accepted_;
  base::Counter all_refused_;
  std::atomic<int64_t> open_{0};  // size of connections_, which the thread keeps up to date

  // Used by the thread while it runs, then by the callers of Stop and EndConnections.
  std::unordered_map<int, Connection> connections_;
  std::unordered_map<std::string, int64_t> per_peer_;  // number of connections; never 0
  absl::Time next_sweep_ = absl::InfinitePast();
  int64_t refused_ = 0;  // connections since the last line
  std::string reason_;   // of the last refusal
  absl::Time last_refusal_ = absl::InfinitePast();
  absl::Time next_count_ = absl::InfinitePast();
  absl::Time next_report_ = absl::InfinitePast();
  bool refusing_ = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_LISTENER_H_
