#include "server/monitor.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bp_version.h"
#include "server/engine/step.h"
#include "server/metrics/health.h"
#include "server/ops/logging.h"

namespace backprop {

absl::StatusOr<Monitor> OpenMonitor(const ops::Config& config) {
  Monitor monitor;
  if (!config.audit_log.empty()) {
    auto audit = ops::AuditLog::Open(config.audit_log, [](const std::string& line) {
      ops::LogLine("audit", spdlog::level::err, line);
    });
    if (!audit.ok()) return audit.status();
    monitor.audit = *std::move(audit);
  }
  if (config.metrics_listen.empty()) return monitor;
  auto listening = rpc::ListenOn(config.metrics_listen, config.unix_access);
  if (!listening.ok()) {
    return absl::Status(listening.status().code(),
                        absl::StrCat("--metrics-listen: ", listening.status().message()));
  }
  monitor.metrics = *std::move(listening);
  return monitor;
}

rpc::Calls CallsFor(const ops::Config& config, ops::AuditLog* audit) {
  rpc::CallObservers observers;
  if (spdlog::should_log(spdlog::level::debug)) observers.every = ops::LogCall;
  if (audit != nullptr) {
    observers.change = [audit](const rpc::CallRecord& call) { audit->Write(call); };
  }
  if (config.slow_request != absl::InfiniteDuration()) observers.slow = ops::LogSlowCall;
  observers.slow_from = config.slow_request;
  return rpc::Calls(std::move(observers), std::make_unique<rpc::CallStats>());
}

namespace {

http::Page MonitorPage(const metrics::Sources& sources, absl::string_view path) {
  if (path == "/metrics") {
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
            .body = metrics::Render(sources)};
  }
  if (path == "/healthz") {
    return sources.serving() ? http::Page{.body = "SERVING\n"}
                             : http::Page{.status = 503, .body = "NOT_SERVING\n"};
  }
  return {.status = 404, .body = "There are /metrics and /healthz.\n"};
}

}  // namespace

metrics::Sources SourcesOf(const Monitor& monitor, rpc::Context* context,
                           ops::AuthFileWatch* auth_file, rpc::Server* server,
                           WritableServer* writable) {
  metrics::Sources sources;
  sources.version = kVersion;
  sources.commit = kCommit;
  sources.instruction_set = engine::InstructionSet();
  sources.context = context;
  sources.listener = server->listener();
  sources.serving = [server, writable] { return writable->serving() && !server->stopping(); };
  if (auth_file != nullptr) {
    sources.auth_file_in_use = [auth_file] { return auth_file->in_use(); };
    sources.auth_file_error = [auth_file] { return auth_file->error(); };
  }
  if (ops::AuditLog* const audit = monitor.audit.get()) {
    sources.audit_written = [audit] { return audit->written(); };
    sources.audit_lost = [audit] { return audit->lost(); };
  }
  return sources;
}

std::unique_ptr<http::HttpListener> ServeMetrics(Monitor* monitor,
                                                 const metrics::Sources& sources) {
  if (monitor->metrics.sockets.empty()) return nullptr;
  auto http = std::make_unique<http::HttpListener>(
      std::move(monitor->metrics),
      [&sources](absl::string_view path) { return MonitorPage(sources, path); });
  spdlog::info("metrics are served on http://{}/metrics", http->address());
  return http;
}

rpc::Introspection IntrospectionOf(const ops::Config& config, const metrics::Sources& sources) {
  rpc::Introspection introspection;
  introspection.version = sources.version;
  introspection.commit = sources.commit;
  introspection.instruction_set = sources.instruction_set;
  introspection.start_time = absl::Now();
  introspection.flags = config.flags;
  introspection.health = [&sources] { return metrics::HealthOf(sources); };
  introspection.metrics = [&sources] { return metrics::Render(sources); };
  introspection.log_lines = ops::RecentLogLines;
  return introspection;
}

}  // namespace backprop
