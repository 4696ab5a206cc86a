#include "server/rpc/server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/rpc/incoming.h"

namespace backprop::rpc {
namespace {

// Once per process, before the first server.
void EnableSideServices() {
  static std::once_flag once;
  std::call_once(once, [] {
    // gRPC's locks are absl::Mutex, and Debian builds Abseil so that every one of them looks for
    // cycles of locks: a search for errors in gRPC that costs two percent of a call.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    CaptureParseErrors();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::channelz::experimental::InitChannelzService();
  });
}

// gRPC replaces a socket file without asking whether a server still listens on it.
absl::Status CheckUnixSocket(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("--unix-socket ", path,
                                                   ": a path must have at most ",
                                                   sizeof(address.sun_path) - 1, " bytes"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("socket: ", std::strerror(errno)));
  const bool answered =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  if (!answered) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "--unix-socket ", path, ": another server listens there; stop it or choose another path"));
}

std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      Context* context) {
  EnableSideServices();
  std::unique_ptr<Server> server(new Server(context));
  grpc::ServerBuilder builder;
  // Two servers on one port would share its connections at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  const auto max_bytes = static_cast<int>(context->limits().max_message_bytes);
  // What surrounds the tensors of a message at the limit.
  constexpr int kEnvelope = 64 << 10;
  builder.SetMaxReceiveMessageSize(max_bytes + kEnvelope);
  builder.SetMaxSendMessageSize(max_bytes + kEnvelope);
  std::vector<int> ports(options.listen.size(), 0);
  for (size_t i = 0; i < options.listen.size(); ++i) {
    builder.AddListeningPort(options.listen[i], grpc::InsecureServerCredentials(), &ports[i]);
  }
  int unix_bound = 1;
  if (!options.unix_socket.empty()) {
    const absl::Status free = CheckUnixSocket(options.unix_socket);
    if (!free.ok()) return free;
    unix_bound = 0;
    builder.AddListeningPort("unix:" + options.unix_socket, grpc::InsecureServerCredentials(),
                             &unix_bound);
  }
  builder.RegisterService(&server->service_);
  builder.RegisterService(&server->admin_);
  for (grpc::Service* service : options.additional) builder.RegisterService(service);
  server->server_ = builder.BuildAndStart();
  for (size_t i = 0; i < ports.size(); ++i) {
    if (ports[i] != 0) {
      server->addresses_.push_back(absl::StrCat(HostOf(options.listen[i]), ":", ports[i]));
      continue;
    }
    return absl::UnavailableError(
        absl::StrCat("--listen ", options.listen[i],
                     ": cannot listen there; is the address host:port, and the port free? "
                     "Port 0 takes a free one"));
  }
  if (unix_bound == 0) {
    return absl::UnavailableError(absl::StrCat("--unix-socket ", options.unix_socket,
                                               ": cannot listen there; is its folder writable?"));
  }
  if (server->server_ == nullptr) return absl::UnavailableError("the server could not start");
  if (!options.unix_socket.empty()) {
    server->unix_socket_ = options.unix_socket;
    server->addresses_.push_back("unix:" + options.unix_socket);
  }
  server->server_->GetHealthCheckService()->SetServingStatus(
      v1::TrainingService::service_full_name(), true);
  server->SetWritable(true);
  return server;
}

void Server::SetWritable(bool writable) {
  server_->GetHealthCheckService()->SetServingStatus(kWritesHealth, writable);
}

bool Server::Stop(absl::Duration grace) {
  if (std::exchange(stopped_, true)) return true;
  server_->GetHealthCheckService()->Shutdown();
  context_->registry->Drain();
  context_->open_calls.TellAll();
  const bool finished = context_->calls.WaitForNone(grace);
  // What is left now: calls that outlived the grace, last messages that a slow reader has not taken
  // yet, and streams of the side services, which end for no other reason.
  const absl::Duration flush = std::min(grace, absl::Seconds(1));
  server_->Shutdown(absl::ToChronoTime(absl::Now() + flush));
  server_->Wait();
  if (!unix_socket_.empty()) unlink(unix_socket_.c_str());
  return finished;
}

Server::~Server() {
  if (server_ != nullptr) Stop(absl::ZeroDuration());
}

}  // namespace backprop::rpc
