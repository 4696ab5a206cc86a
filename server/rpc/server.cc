#include "server/rpc/server.h"

#include <grpcpp/health_check_service_interface.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <iterator>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/codec/reply_size.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/call/received_context.h"
#include "server/rpc/goaway.h"
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
  SetMaxConnectionAge(limits.max_age, builder);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                              Milliseconds(limits.max_age_grace));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits.max_metadata_bytes);
}

// What the servers of all addresses have in common. `quota` may be null.
void Configure(const ServerOptions& options, int64_t max_message_bytes,
               const grpc::ResourceQuota* quota, grpc::ServerBuilder* builder) {
  const auto max_bytes = static_cast<int>(max_message_bytes);
  builder->SetMaxReceiveMessageSize(max_bytes + static_cast<int>(codec::kEnvelopeBytes));
  builder->SetMaxSendMessageSize(max_bytes + static_cast<int>(codec::kEnvelopeBytes));
  RefuseCompressedRequests(builder);
  SetKeepalive(options.keepalive, builder);
  SetTransportLimits(options.transport, builder);
  if (quota != nullptr) builder->SetResourceQuota(*quota);
  builder->SetContextAllocator(std::make_unique<ReceivedContextAllocator>());
  builder->AddChannelArgument("grpc.server_handshake_timeout_ms",
                              Milliseconds(options.handshake_timeout));
}

// Opens the sockets of `addresses`, which are of a flag, and adds them to `all`.
absl::Status Listen(const std::vector<std::string>& addresses, const std::string& flag,
                    const UnixSocketAccess& access, std::vector<ListeningSockets>* all) {
  for (const std::string& address : addresses) {
    auto listening = ListenOn(address, access, flag);
    if (!listening.ok()) return listening.status();
    all->push_back(*std::move(listening));
  }
  return absl::OkStatus();
}

// Gives each of the sockets the acceptor of its kind: TCP with TLS, if there is any, or clear text.
// Adds them to `endpoints`.
void AddEndpoints(std::vector<ListeningSockets> sockets, Tls* tls, grpc::ServerBuilder* builder,
                  std::vector<Endpoint>* endpoints) {
  using Acceptor = std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor>;
  const auto accept = [&](std::shared_ptr<grpc::ServerCredentials> credentials) -> Acceptor {
    return builder->experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        std::move(credentials));
  };
  Acceptor encrypted;
  Acceptor clear;
  for (ListeningSockets& listening : sockets) {
    const bool encrypt = tls != nullptr && !listening.IsUnix();
    Acceptor& acceptor = encrypt ? encrypted : clear;
    if (acceptor == nullptr) {
      acceptor = accept(encrypt ? tls->MakeCredentials() : grpc::InsecureServerCredentials());
    }
    endpoints->push_back({std::move(listening), acceptor});
  }
}

std::vector<std::string> AddressesOf(const std::vector<ListeningSockets>& sockets) {
  std::vector<std::string> addresses;
  for (const ListeningSockets& listening : sockets) addresses.push_back(listening.address);
  return addresses;
}

}  // namespace

absl::StatusOr<std::vector<Endpoint>> Server::Open(const ServerOptions& options,
                                                   InheritedSockets inherited,
                                                   grpc::ServerBuilder* main,
                                                   grpc::ServerBuilder* admin) {
  std::vector<ListeningSockets> own;
  absl::Status opened = Listen(options.listen, "--listen", options.unix_access, &own);
  if (opened.ok() && !options.unix_socket.empty()) {
    opened = Listen({absl::StrCat("unix:", options.unix_socket)}, "--unix-socket",
                    options.unix_access, &own);
  }
  std::vector<ListeningSockets> own_admin;
  if (opened.ok()) {
    opened = Listen(options.admin_listen, "--admin-listen", options.unix_access, &own_admin);
  }
  for (const auto* sockets : {&own, &own_admin}) {
    for (const ListeningSockets& listening : *sockets) {
      if (listening.IsUnix()) unix_sockets_.push_back(listening.address.substr(5));
    }
  }
  if (!opened.ok()) {
    DeleteUnixSockets();
    return opened;
  }
  std::move(inherited.main.begin(), inherited.main.end(), std::back_inserter(own));
  std::move(inherited.admin.begin(), inherited.admin.end(), std::back_inserter(own_admin));
  addresses_ = AddressesOf(own);
  admin_addresses_ = AddressesOf(own_admin);
  std::vector<Endpoint> endpoints;
  AddEndpoints(std::move(own), options.tls, main, &endpoints);
  AddEndpoints(std::move(own_admin), options.tls, admin, &endpoints);
  return endpoints;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      Context* context,
                                                      InheritedSockets inherited) {
  EnableSideServices();
  context->authenticator = options.authenticator;
  context->reflection_is_public = options.reflection_is_public;
  context->sending.set_limit(options.transport.max_in_flight_bytes);
  OverloadLimits overload = options.overload;
  overload.max_request_bytes = options.transport.max_in_flight_bytes;
  context->overload.SetLimits(overload);
  context->environment->pool->SetDelayTarget(options.overload.delay_target);
  std::unique_ptr<Server> server(new Server(context));
  grpc::ResourceQuota quota("backpropd");
  const bool has_quota = options.transport.max_in_flight_bytes > 0;
  if (has_quota) quota.Resize(static_cast<size_t>(options.transport.max_in_flight_bytes));
  grpc::ServerBuilder main;
  grpc::ServerBuilder separate;
  const bool is_separate = !options.admin_listen.empty() || !inherited.admin.empty();
  grpc::ServerBuilder* const admin = is_separate ? &separate : &main;
  for (grpc::ServerBuilder* builder : {&main, &separate}) {
    Configure(options, context->limits().max_message_bytes, has_quota ? &quota : nullptr, builder);
  }
  main.RegisterService(&server->service_);
  for (grpc::Service* service : options.additional) main.RegisterService(service);
  admin->RegisterService(&server->admin_);
  admin->RegisterService(&server->channelz_);
  admin->RegisterService(&server->reflection_);
  admin->RegisterService(&server->reflection_v1alpha_);
  auto endpoints = server->Open(options, std::move(inherited), &main, admin);
  if (!endpoints.ok()) return endpoints.status();
  ConnectionLimits limits = options.connections;
  const absl::Duration noticed = options.keepalive.time + options.keepalive.timeout;
  if (noticed < absl::Hours(1)) limits.unacknowledged = noticed;
  server->listener_ =
      std::make_unique<Listener>(*std::move(endpoints), limits, [context](const std::string& line) {
        if (context->environment->on_warning) context->environment->on_warning(line);
      });
  if (!server->listener_->ready()) return absl::UnavailableError("no file descriptor is available");
  server->server_ = main.BuildAndStart();
  if (is_separate) server->admin_server_ = separate.BuildAndStart();
  if (server->server_ == nullptr || (is_separate && server->admin_server_ == nullptr)) {
    return absl::UnavailableError("gRPC could not start the server");
  }
  server->SetHealth(v1::TrainingService::service_full_name(), true);
  server->SetWritable(true);
  if (options.authenticator != nullptr) server->SetAuthFileInUse(true);
  server->listener_->Start();
  return server;
}

void Server::SetHealth(const std::string& service, bool serving) {
  for (grpc::Server* const one : {server_.get(), admin_server_.get()}) {
    if (one != nullptr) one->GetHealthCheckService()->SetServingStatus(service, serving);
  }
}

void Server::SetWritable(bool writable) { SetHealth(kWritesHealth, writable); }

void Server::SetAuthFileInUse(bool in_use) { SetHealth(kAuthFileHealth, in_use); }

void Server::SetServing(bool serving) {
  SetHealth("", serving);
  SetHealth(v1::TrainingService::service_full_name(), serving);
}

void Server::AnnounceStop() {
  stopping_ = true;
  for (grpc::Server* const one : {server_.get(), admin_server_.get()}) {
    if (one != nullptr) one->GetHealthCheckService()->Shutdown();
  }
}

void Server::DeleteUnixSockets() {
  for (const std::string& path : unix_sockets_) unlink(path.c_str());
  unix_sockets_.clear();
}

// Returns whether no call is left. A peer that does not read keeps its calls active for as long as
// it likes, so the server does not wait for such calls alone.
bool Server::WaitForCalls(absl::Time end) {
  constexpr absl::Duration kPatience = absl::Seconds(1);
  constexpr absl::Duration kLook = absl::Milliseconds(50);
  int64_t events = -1;
  absl::Time since = absl::Now();
  for (;;) {
    const absl::Duration left = end - absl::Now();
    if (context_->calls.WaitForNone(std::clamp(left, absl::ZeroDuration(), kLook))) return true;
    const OpenCall::Progress readers = context_->calls.Readers();
    const absl::Time now = absl::Now();
    if (!readers.waits_for_reader || readers.events != events) since = now;
    events = readers.events;
    if (now >= end || now - since >= kPatience) return false;
  }
}

bool Server::Stop(absl::Duration grace) {
  if (std::exchange(stopped_, true)) return true;
  const absl::Time end = absl::Now() + grace;
  AnnounceStop();
  DeleteUnixSockets();  // before another server can create them
  listener_->Stop();
  const Goaway goaway;
  if (Goaway::Works()) listener_->WaitForClients(std::min(grace, absl::Milliseconds(500)));
  context_->datasets->Stop();  // before runs are stopped, so that none waits for rows
  context_->registry->Drain();
  context_->calls.NotifyStop();
  const bool finished = WaitForCalls(end);
  // Still open now: calls that did not finish within `grace`; connections with last messages that a
  // slow reader has not received; streams of health and reflection, which end only with their
  // connection; calls that still arrive and are rejected.
  listener_->EndConnections(std::min(grace, absl::Seconds(1)));
  for (grpc::Server* const one : {server_.get(), admin_server_.get()}) {
    if (one == nullptr) continue;
    one->Shutdown(absl::ToChronoTime(absl::Now()));
    one->Wait();
  }
  return finished;
}

Server::~Server() {
  if (server_ != nullptr) {
    Stop(absl::ZeroDuration());
  } else {
    DeleteUnixSockets();
  }
}

}  // namespace backprop::rpc
