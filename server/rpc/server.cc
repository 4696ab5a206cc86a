#include "server/rpc/server.h"

#include <grpcpp/health_check_service_interface.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <mutex>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/codec/reply_size.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/sockets.h"

namespace backprop::rpc {
namespace {

// Does its work once per process, before the first server is started.
void EnableSideServices() {
  static std::once_flag once;
  std::call_once(once, [] {
    // gRPC's locks are absl::Mutex. In Debian's build of Abseil each of them searches for cycles of
    // locks, which can only find errors in gRPC and costs two percent of a call.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    CaptureParseErrors();
    grpc::EnableDefaultHealthCheckService(true);
  });
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(duration), INT_MAX));
}

// gRPC decompresses a message before it checks its size, so a compressed megabyte could take a
// gigabyte of memory. Without decompression, and with no algorithm allowed, a call with a
// compressed request ends with UNIMPLEMENTED.
void RefuseCompressedRequests(grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  for (const auto algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder->SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
}

void SetKeepalive(const KeepaliveOptions& keepalive, grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(keepalive.time));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(keepalive.timeout));
  // For both sides: the server pings idle connections, and clients are allowed to.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              Milliseconds(keepalive.min_client_interval));
}

void SetTransportLimits(const TransportLimits& limits, grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, Milliseconds(limits.max_idle));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(limits.max_age));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                              Milliseconds(limits.max_age_grace));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits.max_metadata_bytes);
  if (limits.max_in_flight_bytes > 0) {
    grpc::ResourceQuota quota("backpropd");
    builder->SetResourceQuota(quota.Resize(static_cast<size_t>(limits.max_in_flight_bytes)));
  }
}

absl::StatusOr<std::vector<ListeningSockets>> Listen(const ServerOptions& options) {
  std::vector<ListeningSockets> all;
  for (const std::string& address : options.listen) {
    auto listening = ListenOn(address, options.unix_access);
    if (!listening.ok()) return listening.status();
    all.push_back(*std::move(listening));
  }
  if (!options.unix_socket.empty()) {
    auto listening = ListenOnUnixSocket(options.unix_socket, options.unix_access);
    if (!listening.ok()) return listening.status();
    all.push_back(*std::move(listening));
  }
  return all;
}

// Gives each of the sockets the acceptor of its kind: TCP with TLS, if there is any, or clear text.
std::vector<Endpoint> MakeEndpoints(std::vector<ListeningSockets> sockets, Tls* tls,
                                    grpc::ServerBuilder* builder) {
  using Acceptor = std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor>;
  const auto accept = [&](std::shared_ptr<grpc::ServerCredentials> credentials) -> Acceptor {
    return builder->experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        std::move(credentials));
  };
  Acceptor encrypted;
  Acceptor clear;
  std::vector<Endpoint> endpoints;
  for (ListeningSockets& listening : sockets) {
    const bool encrypt = tls != nullptr && !listening.IsUnix();
    Acceptor& acceptor = encrypt ? encrypted : clear;
    if (acceptor == nullptr) {
      acceptor = accept(encrypt ? tls->MakeCredentials() : grpc::InsecureServerCredentials());
    }
    endpoints.push_back({std::move(listening), acceptor});
  }
  return endpoints;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      Context* context) {
  EnableSideServices();
  context->authenticator = options.authenticator;
  context->reflection_is_public = options.reflection_is_public;
  std::unique_ptr<Server> server(new Server(context));
  grpc::ServerBuilder builder;
  const auto max_bytes = static_cast<int>(context->limits().max_message_bytes);
  builder.SetMaxReceiveMessageSize(max_bytes + static_cast<int>(codec::kEnvelopeBytes));
  builder.SetMaxSendMessageSize(max_bytes + static_cast<int>(codec::kEnvelopeBytes));
  RefuseCompressedRequests(&builder);
  SetKeepalive(options.keepalive, &builder);
  SetTransportLimits(options.transport, &builder);
  context->sending.set_limit(options.transport.max_in_flight_bytes);
  builder.AddChannelArgument("grpc.server_handshake_timeout_ms",
                             Milliseconds(options.handshake_timeout));
  builder.RegisterService(&server->service_);
  builder.RegisterService(&server->admin_);
  builder.RegisterService(&server->channelz_);
  builder.RegisterService(&server->reflection_);
  builder.RegisterService(&server->reflection_v1alpha_);
  for (grpc::Service* service : options.additional) builder.RegisterService(service);
  auto listening = Listen(options);
  if (!listening.ok()) return listening.status();
  for (const ListeningSockets& sockets : *listening) {
    server->addresses_.push_back(sockets.address);
    if (sockets.IsUnix()) {
      server->unix_sockets_.push_back(sockets.address.substr(5));
    }
  }
  ConnectionLimits limits = options.connections;
  const absl::Duration noticed = options.keepalive.time + options.keepalive.timeout;
  if (noticed < absl::Hours(1)) limits.unacknowledged = noticed;
  server->listener_ =
      std::make_unique<Listener>(MakeEndpoints(*std::move(listening), options.tls, &builder),
                                 limits, [context](const std::string& line) {
                                   if (context->environment->on_warning)
                                     context->environment->on_warning(line);
                                 });
  if (!server->listener_->ready()) return absl::UnavailableError("no file descriptor is available");
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) return absl::UnavailableError("gRPC could not start the server");
  server->server_->GetHealthCheckService()->SetServingStatus(
      v1::TrainingService::service_full_name(), true);
  server->SetWritable(true);
  if (options.authenticator != nullptr) server->SetAuthFileInUse(true);
  server->listener_->Start();
  return server;
}

void Server::SetWritable(bool writable) {
  server_->GetHealthCheckService()->SetServingStatus(kWritesHealth, writable);
}

void Server::SetAuthFileInUse(bool in_use) {
  server_->GetHealthCheckService()->SetServingStatus(kAuthFileHealth, in_use);
}

void Server::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus("", serving);
  health->SetServingStatus(v1::TrainingService::service_full_name(), serving);
}

bool Server::Stop(absl::Duration grace) {
  if (std::exchange(stopped_, true)) return true;
  server_->GetHealthCheckService()->Shutdown();
  context_->datasets->Stop();  // before runs are stopped, so that none waits for rows
  context_->registry->Drain();
  context_->calls.NotifyStop();
  const bool finished = context_->calls.WaitForNone(grace);
  // Still open now: calls that did not finish within `grace`; connections with last messages that a
  // slow reader has not received; streams of health and reflection, which end only with their
  // connection; calls that still arrive and are rejected.
  listener_->Stop();
  listener_->EndConnections(std::min(grace, absl::Seconds(1)));
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  server_->Wait();
  for (const std::string& path : unix_sockets_) unlink(path.c_str());
  return finished;
}

Server::~Server() {
  if (server_ != nullptr) Stop(absl::ZeroDuration());
}

}  // namespace backprop::rpc
