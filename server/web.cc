#include "server/web.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "backprop/v1/admin_service.pb.h"
#include "grpc/health/v1/health.pb.h"
#include "server/codec/reply_size.h"
#include "server/http/errors.h"
#include "server/http/http_listener.h"
#include "server/ops/logging.h"
#include "server/rpc/call/forwarded_peer.h"

namespace backprop {
namespace {

// The RPCs that are served; those of AdminService only if the addresses of --listen have them.
constexpr const char* kServices[] = {"backprop.v1.TrainingService", "backprop.v1.AdminService",
                                     "grpc.health.v1.Health"};

http::Page ErrorPage(const grpc::Status& status) {
  return {.status = http::HttpStatus(status.error_code()), .body = status.error_message() + "\n"};
}

http::Page HealthPage(const grpc::Status& status, const std::string& response) {
  if (!status.ok()) return ErrorPage(status);
  grpc::health::v1::HealthCheckResponse health;
  const bool serving = health.ParseFromString(response) &&
                       health.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  return serving ? http::Page{.body = "SERVING\n"}
                 : http::Page{.status = 503, .body = "NOT_SERVING\n"};
}

http::Page MetricsPage(const grpc::Status& status, const std::string& response) {
  if (!status.ok()) return ErrorPage(status);
  v1::GetServerStatusResponse server;
  if (!server.ParseFromString(response))
    return {.status = 500, .body = "the response cannot be read\n"};
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = std::move(*server.mutable_status()->mutable_metrics())};
}

http::Metadata Identity(const http::Connection::Peer& peer) {
  return {{rpc::kForwardedPeerKey, rpc::ForwardedPeerValue({peer.address, peer.certificate_uris})}};
}

}  // namespace

absl::StatusOr<std::vector<rpc::ListeningSockets>> OpenHttp(const ops::Config& config) {
  std::vector<rpc::ListeningSockets> all;
  for (const std::string& address : config.http) {
    auto listening = rpc::ListenOn(address, config.unix_access, "--http");
    if (listening.ok()) {
      all.push_back(*std::move(listening));
      continue;
    }
    for (const rpc::ListeningSockets& one : all) {
      if (one.IsUnix()) unlink(one.address.substr(5).c_str());
    }
    return listening.status();
  }
  return all;
}

std::unique_ptr<http::Gateway> ServeHttp(const ops::Config& config,
                                         const rpc::ServerOptions& limits, rpc::Tls* tls,
                                         std::vector<rpc::ListeningSockets> listening,
                                         rpc::Server* server) {
  if (listening.empty()) return nullptr;
  http::GatewayOptions options;
  options.listening = std::move(listening);
  options.tls = tls;
  options.connections = limits.connections;
  const absl::Duration noticed = limits.keepalive.time + limits.keepalive.timeout;
  if (noticed < absl::Hours(1)) options.connections.unacknowledged = noticed;
  options.times.handshake = limits.handshake_timeout;
  options.times.idle = limits.transport.max_idle;
  options.times.stream_idle = config.stream_idle_timeout;
  options.max_head_bytes = static_cast<size_t>(limits.transport.max_metadata_bytes);
  options.max_message_bytes =
      static_cast<size_t>(config.limits.max_message_bytes + codec::kEnvelopeBytes);
  options.max_in_flight_bytes = limits.transport.max_in_flight_bytes;
  options.services.assign(std::begin(kServices), std::end(kServices));
  const http::CallPage health{"/grpc.health.v1.Health/Check", "", HealthPage};
  options.pages = {
      {"/healthz", health},
      {"/readyz", health},
      {"/metrics", {"/backprop.v1.AdminService/GetServerStatus", "", MetricsPage}},
  };
  options.allowed_origins = config.http_allow_origin;
  options.only_local_hosts = config.auth_file.empty() && !config.allow_anonymous;
  options.identity = Identity;
  options.on_warning = [](const std::string& line) {
    ops::LogLine("http", spdlog::level::warn, line);
  };
  auto gateway = std::make_unique<http::Gateway>(std::move(options), server->InProcessChannel());
  spdlog::info("HTTP is served on {}", absl::StrJoin(gateway->addresses(), ", "));
  return gateway;
}

}  // namespace backprop
