// Listening, the standard side services, and stopping in good order.
#ifndef BACKPROP_SERVER_RPC_SERVER_H_
#define BACKPROP_SERVER_RPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/context.h"
#include "server/rpc/listener.h"
#include "server/rpc/reflection_service.h"
#include "server/rpc/training_service.h"

namespace backprop::rpc {

// Pings of HTTP/2. A connection whose peer vanished, or whose network stopped forwarding, is
// noticed within `time` + `timeout`.
struct KeepaliveOptions {
  absl::Duration time = absl::Seconds(10);     // after so long without a byte the server pings
  absl::Duration timeout = absl::Seconds(10);  // for the answer; then the connection is closed
  // Clients may ping this often, with calls and without. One that pings more often three times is
  // sent away with too_many_pings. 0: as often as they like.
  absl::Duration min_client_interval = absl::Seconds(5);
};

struct ServerOptions {
  std::vector<std::string> listen;         // "host:port" or "unix:path"; port 0 takes a free one
  std::string unix_socket;                 // path, or empty
  std::vector<grpc::Service*> additional;  // served beside ours, for benchmarks
  KeepaliveOptions keepalive{};
  // Of `connections`, `unacknowledged` follows from `keepalive`.
  ConnectionLimits connections{};
};

// Under this name the health service says whether changes can be stored. Without a disk they always
// can.
inline constexpr char kWritesHealth[] = "backprop.v1.TrainingService.writes";

// Serves TrainingService, AdminService, health, reflection and channelz. Thread-safe.
class Server {
 public:
  // UNAVAILABLE with what to do if an address cannot be had. `context` must outlive the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       Context* context);
  ~Server();

  // The addresses that clients can dial, "host:port" or "unix:path".
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Health of the service kWritesHealth, apart from that of all calls.
  void SetWritable(bool writable);
  // Health of the server as a whole and of TrainingService.
  void SetServing(bool serving);

  // In this order: health turns NOT_SERVING; new work is refused with UNAVAILABLE; runs stop at a
  // step boundary and their streams end with UNAVAILABLE; calls under way finish, for at most
  // `grace`, then they are cut off. Then the connections are closed: their clients get UNAVAILABLE,
  // never CANCELLED, for calls that arrive too late. Returns whether all finished by themselves.
  bool Stop(absl::Duration grace);

  // For clients in the same process.
  std::shared_ptr<grpc::Channel> InProcessChannel() {
    return server_->InProcessChannel(grpc::ChannelArguments());
  }

 private:
  explicit Server(Context* context)
      : context_(context), service_(context), admin_(context), reflection_(context) {}

  Context* const context_;
  TrainingService service_;
  AdminService admin_;
  ReflectionService reflection_;
  std::vector<std::string> addresses_;
  std::vector<std::string> unix_sockets_;  // files that end with the server
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;  // hands connections to server_
  bool stopped_ = false;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SERVER_H_
