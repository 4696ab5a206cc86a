// Serves the RPCs of a gRPC channel over HTTP/1.1: the Connect protocol and gRPC-Web, with binary
// messages or JSON. docs/http.md is the page for users.
#ifndef BACKPROP_SERVER_HTTP_GATEWAY_H_
#define BACKPROP_SERVER_HTTP_GATEWAY_H_

#include <grpcpp/channel.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/http/connection.h"
#include "server/http/errors.h"
#include "server/http/exchanges.h"
#include "server/rpc/listener.h"
#include "server/rpc/sockets.h"
#include "server/rpc/tls.h"

namespace backprop::http {

struct GatewayOptions {
  std::vector<rpc::ListeningSockets> listening;
  // TLS of all TCP addresses; null: clear text. Must outlive the gateway.
  rpc::Tls* tls = nullptr;
  rpc::ConnectionLimits connections{};  // `unacknowledged` applies as well
  ConnectionTimes times{};
  size_t max_head_bytes = 16 << 10;       // the line and the headers of a request
  size_t max_message_bytes = 64 << 20;    // see CallEnvironment
  int64_t max_in_flight_bytes = 0;        // of all bodies together; 0: no limit
  std::vector<std::string> services;      // full names
  std::map<std::string, CallPage> pages;  // by path, for GET
  // Pages of these origins, "https://example.org", may call; "*": all pages.
  std::vector<std::string> allowed_origins;
  // Refuses requests whose Host is a name other than localhost and those of `allowed_origins`: for
  // a server that trusts all processes of the machine. A page of a browser could otherwise give its
  // own name the address of this machine (DNS rebinding), and be taken for a page of this server.
  bool only_local_hosts = false;
  // Metadata of each call that names the peer to the server. Headers of a request never have
  // these names.
  std::function<Metadata(const Connection::Peer&)> identity;
  int threads = 2;
  // Gets one line per 10 seconds with the number of refused connections.
  std::function<void(const std::string&)> on_warning;
};

// Its threads read, convert and write; calls run on the threads of the channel. Each connection has
// a strand: what happens to it happens in one order.
//
//     Gateway gateway(std::move(options), server->InProcessChannel());
//     …
//     gateway.Drain();     // no new connections; the others close after their response
//     server->Stop(grace);
//     gateway.Stop(flush);
class Gateway {
 public:
  // `channel` must take messages of any size.
  Gateway(GatewayOptions options, std::shared_ptr<grpc::Channel> channel);
  ~Gateway();  // Stop without a time to flush
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // "host:port" or "unix:path", with the ports that were bound.
  const std::vector<std::string>& addresses() const { return addresses_; }
  // Open connections. Thread-safe.
  int64_t open_connections() const;

  // Closes the listening sockets, deletes the files of Unix sockets, and closes connections without
  // a request.
  void Drain();
  // Drains, waits for at most `flush` until responses are sent, then closes all connections and
  // cancels their calls.
  void Stop(absl::Duration flush);

 private:
  class Impl;

  std::vector<std::string> addresses_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_GATEWAY_H_
