// The gRPC server: its addresses, its standard services, and its shutdown.
#ifndef BACKPROP_SERVER_RPC_SERVER_H_
#define BACKPROP_SERVER_RPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/call/overload_control.h"
#include "server/rpc/channelz_service.h"
#include "server/rpc/context.h"
#include "server/rpc/listener.h"
#include "server/rpc/reflection_service.h"
#include "server/rpc/sockets.h"
#include "server/rpc/tls.h"
#include "server/rpc/training_service.h"

namespace backprop::rpc {

// HTTP/2 pings. A connection whose peer or network has failed is detected and closed within `time`
// + `timeout`.
struct KeepaliveOptions {
  absl::Duration time = absl::Seconds(10);     // without received data, before the server pings
  absl::Duration timeout = absl::Seconds(10);  // for the response, before it closes the connection
  // Minimum interval between pings of a client, with or without active calls. The third ping that
  // is too early closes the connection with too_many_pings. 0: no minimum.
  absl::Duration min_client_interval = absl::Seconds(5);
};

// What one connection, and all of them together, can make gRPC hold.
struct TransportLimits {
  // A connection without calls is closed after this time: GOAWAY, so that no call is lost.
  absl::Duration max_idle = absl::Minutes(5);
  // After this time, varied by up to 10 %, a connection gets no new calls (GOAWAY): clients open
  // another one for them. Its calls have `max_age_grace` to end, then they are cancelled and the
  // connection is closed.
  absl::Duration max_age = absl::InfiniteDuration();
  absl::Duration max_age_grace = absl::InfiniteDuration();
  // Further calls on one connection wait in the client. A client that opens more loses the
  // connection.
  int max_concurrent_streams = 100;
  // Maximum size of the metadata of a call: names and values, and 32 bytes for each entry. A call
  // with more ends with RESOURCE_EXHAUSTED.
  int max_metadata_bytes = 16 << 10;
  // Memory that gRPC may use for connections and for messages that it receives. Above it, gRPC
  // reads less, closes connections without calls and cancels calls. Also the memory of the requests
  // of active calls (OverloadControl), and of responses and files that are being sent (Sending);
  // further ones are refused. 0: no limit.
  int64_t max_in_flight_bytes = 0;
};

struct ServerOptions {
  std::vector<std::string> listen;         // "host:port" or "unix:path"; port 0 takes a free one
  std::string unix_socket;                 // path, or empty
  std::vector<grpc::Service*> additional;  // further services, for benchmarks; not owned
  KeepaliveOptions keepalive{};
  // `unacknowledged` is replaced by keepalive.time + keepalive.timeout if that is below one hour.
  ConnectionLimits connections{};
  TransportLimits transport{};
  OverloadLimits overload{};  // max_request_bytes is that of `transport`
  // Identifies the callers; must outlive the server. Null: everyone may call every method.
  Authenticator* authenticator = nullptr;
  // With an authenticator: everyone may call the reflection services.
  bool reflection_is_public = false;
  UnixSocketAccess unix_access{};
  // TLS of all TCP addresses; null: clear text. Must outlive the server. Unix sockets are always
  // clear text, because their bytes do not leave the machine.
  Tls* tls = nullptr;
  // A connection that has not completed its handshake, of TLS and HTTP/2, after this time is
  // closed.
  absl::Duration handshake_timeout = absl::Seconds(20);
  // As `listen`. If there is one, or an inherited socket for it, only these addresses serve
  // AdminService, channelz and reflection, and nothing else but health; the other ones do not.
  std::vector<std::string> admin_listen{};
};

// Sockets that another process has opened, in addition to those of ServerOptions.
struct InheritedSockets {
  std::vector<ListeningSockets> main;
  std::vector<ListeningSockets> admin;
};

// The health service reports under this name whether changes can be stored. Without a data
// directory it is always SERVING.
inline constexpr char kWritesHealth[] = "backprop.v1.TrainingService.writes";

// The health service reports under this name, if there is an authenticator, whether it uses the
// latest auth file.
inline constexpr char kAuthFileHealth[] = "backprop.v1.AuthFile";

// Serves TrainingService, AdminService, health, reflection and channelz. Thread-safe, but Stop must
// be called by one thread at a time.
class Server {
 public:
  // `context` must outlive the server. Errors: UNAVAILABLE if the server cannot listen on an
  // address, with advice in the message; INVALID_ARGUMENT if a path of a Unix socket is too long.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       Context* context,
                                                       InheritedSockets inherited = {});
  ~Server();  // stops without grace, if Stop was not called

  // The addresses for clients, "host:port" or "unix:path", with the ports that were bound: those
  // that serve TrainingService, and those of `admin_listen`.
  const std::vector<std::string>& addresses() const { return addresses_; }
  const std::vector<std::string>& admin_addresses() const { return admin_addresses_; }

  // Connections, except those in the same process. Thread-safe.
  Listener* listener() { return listener_.get(); }

  // Health of the service kWritesHealth only.
  void SetWritable(bool writable);
  // Health of the service kAuthFileHealth only. The server starts with true if it has an
  // authenticator.
  void SetAuthFileInUse(bool in_use);
  // Health of the server as a whole and of TrainingService.
  void SetServing(bool serving);

  // Health becomes NOT_SERVING, so that load balancers send new calls elsewhere. Nothing else
  // changes until Stop. Thread-safe.
  void AnnounceStop();
  // Whether AnnounceStop or Stop was called. Thread-safe.
  bool stopping() const { return stopping_; }

  // Stops the server in these steps:
  // - Health becomes NOT_SERVING. The listening sockets are closed, and the files of Unix sockets
  //   deleted, unless they were inherited. Connections get GOAWAY: clients open others, elsewhere,
  //   for new calls. Calls that clients send before they see it are served: for at most 500 ms.
  // - New work is rejected with UNAVAILABLE. Runs stop between two steps, and their streams end
  //   with UNAVAILABLE.
  // - Active calls get up to `grace` to finish; less if the callers of all that are left have
  //   received nothing for a second.
  // - The connections are closed. Clients get UNAVAILABLE, never CANCELLED, for calls that have not
  //   finished or arrive too late.
  // Returns whether all calls finished in this time; true if the server was stopped before.
  bool Stop(absl::Duration grace);

  // For clients in the same process. The server that has `addresses`; messages of any size.
  std::shared_ptr<grpc::Channel> InProcessChannel() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    return server_->InProcessChannel(arguments);
  }

 private:
  explicit Server(Context* context)
      : context_(context),
        service_(context),
        admin_(context),
        channelz_(context),
        reflection_(context),
        reflection_v1alpha_(context) {}

  // Opens all sockets and gives each of them an acceptor of its server.
  absl::StatusOr<std::vector<Endpoint>> Open(const ServerOptions& options,
                                             InheritedSockets inherited, grpc::ServerBuilder* main,
                                             grpc::ServerBuilder* admin);
  void DeleteUnixSockets();
  bool WaitForCalls(absl::Time end);
  // Sets the health of `service` on all servers.
  void SetHealth(const std::string& service, bool serving);

  Context* const context_;
  TrainingService service_;
  AdminService admin_;
  ChannelzService channelz_;
  ReflectionService reflection_;
  ReflectionServiceV1Alpha reflection_v1alpha_;
  std::vector<std::string> addresses_;
  std::vector<std::string> admin_addresses_;
  std::vector<std::string> unix_sockets_;  // files that Stop deletes
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> admin_server_;  // null: server_ has its services
  std::unique_ptr<Listener> listener_;          // passes connections to the servers
  std::atomic<bool> stopping_{false};
  bool stopped_ = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SERVER_H_
