// The composition root.
#include <grpc/grpc.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bp_version.h"
#include "server/auth/auth_file.h"
#include "server/base/clock.h"
#include "server/datasets/datasets.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/janitor.h"
#include "server/monitor.h"
#include "server/ops/audit_log.h"
#include "server/ops/auth_file_watch.h"
#include "server/ops/config.h"
#include "server/ops/exposure.h"
#include "server/ops/logging.h"
#include "server/ops/port_file.h"
#include "server/ops/process_memory.h"
#include "server/ops/service_manager.h"
#include "server/ops/signals.h"
#include "server/ops/socket_activation.h"
#include "server/ops/system_limits.h"
#include "server/records/project.h"
#include "server/registry/registry.h"
#include "server/rpc/certificates.h"
#include "server/rpc/health_check.h"
#include "server/rpc/permissions.h"
#include "server/rpc/server.h"
#include "server/rpc/sockets.h"
#include "server/rpc/tls.h"
#include "server/session/environment.h"
#include "server/session/metered_store.h"
#include "server/session/projects.h"
#include "server/store/store.h"
#include "server/stores.h"
#include "server/web.h"

namespace backprop {
namespace {

std::string Version() {
  return absl::StrCat("backpropd ", kVersion, " (commit ", kCommit, ", ", engine::InstructionSet(),
                      ")");
}

// Waits until gRPC's threads have ended: one of them could still use OpenSSL when an exit handler
// destroys it. The caller has destroyed all objects of gRPC.
void EndGrpc() {
  grpc_init();
  grpc_shutdown_blocking();
}

// A service manager that cannot be reached does not stop the server.
void TellServiceManager(absl::string_view state) {
  const absl::Status told = ops::NotifyServiceManager(state);
  if (!told.ok()) spdlog::warn("{}", std::string(told.message()));
}

// Waits for the first signal that ends the server. Then announces that, and waits for `drain_delay`
// or for another signal. After that watches for a signal that ends the process.
void WaitForSignal(const sigset_t& signals, const ops::Reload& reload, absl::Duration drain_delay,
                   rpc::Server* server) {
  int signal = *ops::WaitForEnd(signals, reload);
  TellServiceManager(ops::kStopping);
  if (drain_delay > absl::ZeroDuration()) {
    server->AnnounceStop();
    spdlog::info("{}: health is NOT_SERVING; stopping in {} (--drain-delay)", strsignal(signal),
                 absl::FormatDuration(drain_delay));
    signal = ops::WaitForEnd(signals, reload, absl::Now() + drain_delay).value_or(signal);
  }
  spdlog::info("{}: stopping", strsignal(signal));
  std::thread([signals] {
    const int last = *ops::WaitForEnd(signals, {});
    spdlog::warn("another {}: stopping at once", strsignal(last));
    _exit(128 + last);
  }).detach();
}

void LogFound(const registry::Registry::Opened& found, const std::string& directory) {
  if (directory.empty()) return;
  spdlog::info("{} holds {} models; {} runs resume", directory, found.models, found.runs);
  for (const std::string& id : found.damaged) {
    spdlog::error("{} of project {} is damaged and fails with DATA_LOSS; all others are intact",
                  records::ModelName(id), std::string(records::ProjectOf(id)));
  }
}

rpc::ServerOptions ServerOptionsFor(const ops::Config& config, const ops::Descriptors& descriptors,
                                    rpc::Tls* tls) {
  rpc::ServerOptions options{config.listen, config.unix_socket, {}, config.keepalive, {}};
  options.admin_listen = config.admin_listen;
  options.reflection_is_public = config.reflection_is_public;
  options.unix_access = config.unix_access;
  options.tls = tls;
  options.handshake_timeout = config.handshake_timeout;
  options.connections.max_connections = std::min(
      config.max_connections.value_or(descriptors.max_connections), descriptors.for_connections);
  options.connections.max_connections_per_peer = config.max_connections_per_peer.value_or(-1);
  options.transport = config.transport;
  options.overload = config.overload;
  options.connections.max_descriptor = static_cast<int>(descriptors.for_connections);
  if (config.max_connections.value_or(0) > descriptors.for_connections) {
    spdlog::warn("--max-connections {}: the limit of open files ({}) allows only {}",
                 *config.max_connections, descriptors.allowed, descriptors.for_connections);
  }
  return options;
}

// Null if callers are anonymous. Errors: the configuration would expose the server, or the file of
// --auth-file cannot be used.
absl::StatusOr<std::unique_ptr<ops::AuthFileWatch>> OpenAuthFile(const ops::Config& config,
                                                                 const base::Clock* clock) {
  const absl::Status exposure = ops::CheckExposure(config);
  if (!exposure.ok()) return exposure;
  if (config.auth_file.empty()) return nullptr;
  auto watch = ops::AuthFileWatch::Open(config.auth_file, clock);
  if (watch.ok()) return watch;
  return absl::Status(watch.status().code(),
                      absl::StrCat("--auth-file: ", watch.status().message()));
}

std::map<std::string, session::Quota> QuotasOf(const std::vector<auth::Project>& projects) {
  std::map<std::string, session::Quota> quotas;
  for (const auth::Project& project : projects) {
    session::Quota& quota = quotas[project.name];
    quota.of(session::Resource::kModels) = project.quotas.models;
    quota.of(session::Resource::kParameters) = project.quotas.parameters;
    quota.of(session::Resource::kRuns) = project.quotas.concurrent_runs;
    quota.of(session::Resource::kStoredBytes) = project.quotas.stored_bytes;
    quota.of(session::Resource::kBytesInFlight) = project.quotas.bytes_in_flight;
    quota.of(session::Rate::kRequests) = project.quotas.requests_per_second;
    quota.of(session::Rate::kRows) = project.quotas.rows_per_second;
    quota.weight = static_cast<double>(project.weight);
  }
  return quotas;
}

// From now on the stores of `environment` count what is stored of each project.
absl::Status CountStored(session::MeteredStore* metered, session::Environment* environment) {
  if (environment->store != nullptr) environment->store = metered;
  environment->archive = metered;
  return metered->Open();
}

// Projects have the quotas of the auth file, which may be null, now and after each change of it.
// `environment` must live until SetProjects is called again.
void ApplyQuotas(ops::AuthFileWatch* auth_file, session::Environment* environment) {
  if (auth_file == nullptr) return;
  auth_file->SetProjects([environment](const std::vector<auth::Project>& projects) {
    environment->projects.SetQuotas(QuotasOf(projects));
  });
}

// Null if the server is to use clear text.
absl::StatusOr<std::unique_ptr<rpc::Tls>> OpenTls(const ops::Config& config) {
  if (!config.tls.has_value()) return nullptr;
  auto tls = rpc::Tls::Open(*config.tls);
  if (tls.ok()) LogNotices((*tls)->Check(absl::Now()));
  return tls;
}

void LogStarted(const ops::Config& config, const std::vector<std::string>& addresses,
                const std::vector<std::string>& admin_addresses) {
  if (!admin_addresses.empty()) {
    spdlog::info("AdminService, channelz and reflection are served on {} only",
                 absl::StrJoin(admin_addresses, ", "));
  }
  spdlog::info("{} listens on {} with {} compute threads; models {}", Version(),
               absl::StrJoin(addresses, ", "), config.threads,
               config.data_dir.empty() ? "are kept in memory and are lost when the process ends"
                                       : "are stored in " + config.data_dir);
  spdlog::info("memory limit: {}",
               config.limits.memory_limit_bytes == 0
                   ? "none"
                   : absl::StrCat(config.limits.memory_limit_bytes >> 20, " MiB"));
  spdlog::log(config.auth_file.empty() ? spdlog::level::warn : spdlog::level::info, "{}",
              ops::DescribeAccess(config));
  const std::string hostile_peers = ops::DescribeHostilePeers(config);
  if (!hostile_peers.empty()) spdlog::warn("{}", hostile_peers);
  if (!ops::ExecutableMemoryIsAllowed()) {
    spdlog::warn(
        "the system denies executable memory: training of large float32 models takes longer");
  }
}

// Tells clients, operators and the service manager that the server accepts calls. `http` may be
// null.
absl::Status Announce(const ops::Config& config, const rpc::Server& server,
                      const http::Gateway* http) {
  // The log is complete when the port file exists.
  LogStarted(config, server.addresses(), server.admin_addresses());
  if (!config.admin_port_file.empty()) {
    if (server.admin_addresses().empty()) {
      return absl::InvalidArgumentError("--admin-port-file: needs --admin-listen");
    }
    absl::Status written = ops::WritePortFile("--admin-port-file", config.admin_port_file,
                                              server.admin_addresses().front());
    if (!written.ok()) return written;
  }
  if (!config.http_port_file.empty()) {
    if (http == nullptr) return absl::InvalidArgumentError("--http-port-file: needs --http");
    absl::Status written =
        ops::WritePortFile("--http-port-file", config.http_port_file, http->addresses().front());
    if (!written.ok()) return written;
  }
  if (!config.port_file.empty()) {
    absl::Status written =
        ops::WritePortFile("--port-file", config.port_file, server.addresses().front());
    if (!written.ok()) return written;
  }
  TellServiceManager(ops::kReady);
  return absl::OkStatus();
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "backpropd: %s\n", std::string(status.message()).c_str());
  return 1;
}

// Both may be null.
ops::Reload ReloadOf(ops::AuthFileWatch* auth_file, ops::AuditLog* audit) {
  if (auth_file == nullptr && audit == nullptr) return {};
  return [auth_file, audit] {
    if (auth_file != nullptr) auth_file->Reload();
    if (audit == nullptr) return;
    const absl::Status reopened = audit->Reopen();
    if (!reopened.ok()) spdlog::error("{}; the old file is used", std::string(reopened.message()));
  };
}

// Returns whether all calls finished within the grace period. `web` may be null.
bool ServeUntilSignal(const ops::Config& config, const sigset_t& signals, Monitor* monitor,
                      rpc::Context* context, ops::AuthFileWatch* auth_file, rpc::Tls* tls,
                      rpc::Server* server, http::Gateway* web, WritableServer* writable) {
  const metrics::Sources sources = SourcesOf(*monitor, context, auth_file, server, writable);
  const rpc::Introspection introspection = IntrospectionOf(config, sources);
  const auto http = ServeMetrics(monitor, sources);
  context->introspection = &introspection;
  const ops::Reload reload = ReloadOf(auth_file, monitor->audit.get());
  if (auth_file != nullptr) {
    auth_file->SetHealth([server](bool in_use) { server->SetAuthFileInUse(in_use); });
  }
  bool finished = false;
  {
    const Janitor janitor(context, auth_file, tls, config);
    WaitForSignal(signals, reload, config.drain_delay, server);
    if (web != nullptr) web->Drain();
    finished = server->Stop(config.grace);
    if (web != nullptr) web->Stop(std::min(config.grace, absl::Seconds(1)));
  }
  if (auth_file != nullptr) {
    auth_file->SetHealth({});
    auth_file->SetProjects({});
  }
  context->introspection = nullptr;  // no call is left
  return finished;
}

// What is left of a server that has stopped.
void DeletePortFiles(const ops::Config& config) {
  for (const std::string& path :
       {config.port_file, config.admin_port_file, config.http_port_file}) {
    if (!path.empty()) unlink(path.c_str());
  }
}

int Serve(const ops::Config& config, rpc::InheritedSockets inherited, const sigset_t& signals) {
  const ops::Descriptors descriptors = ops::RaiseDescriptorLimit();
  const absl::Status possible = ops::CheckSystemLimits(descriptors, config.threads);
  if (!possible.ok()) return Fail(possible);
  const auto tls = OpenTls(config);  // outlives the server
  if (!tls.ok()) return Fail(tls.status());
  auto starting = std::make_unique<ops::AbortIsAFailedStart>();
  const base::SystemClock clock;
  const auto opened_auth_file = OpenAuthFile(config, &clock);
  if (!opened_auth_file.ok()) return Fail(opened_auth_file.status());
  ops::AuthFileWatch* const auth_file = opened_auth_file->get();  // outlives the server
  auto monitor = OpenMonitor(config);                             // outlives the calls
  if (!monitor.ok()) return Fail(monitor.status());
  WritableServer writable;
  const auto stores = OpenStores(config, &writable);  // outlive everything that writes to them
  if (!stores.ok()) return Fail(stores.status());
  store::Store* const archive = stores->archive();
  auto pool = std::make_unique<exec::ComputePool>(config.threads);
  session::Environment environment{pool.get(),           &clock,  config.limits, ops::LogRun,
                                   stores->models.get(), archive, nullptr};
  environment.on_warning = [](const std::string& line) {
    ops::LogLine("store", spdlog::level::warn, line);
  };
  session::MeteredStore metered(archive, &environment.projects, environment.on_warning);
  const absl::Status counted = CountStored(&metered, &environment);
  if (!counted.ok()) return Fail(counted);
  datasets::Datasets datasets(&environment, config.data_dir);
  environment.row_source = &datasets;
  ApplyQuotas(auth_file, &environment);
  registry::Registry registry(&environment);
  rpc::Context context{&environment, &registry, &datasets, CallsFor(config, monitor->audit.get())};
  if (const auto opened = datasets.Open(); !opened.ok()) return Fail(opened.status());
  const auto found = registry.Open();
  if (!found.ok()) return Fail(found.status());
  LogFound(*found, config.data_dir);

  rpc::ServerOptions options = ServerOptionsFor(config, descriptors, tls->get());
  if (auth_file != nullptr) options.authenticator = auth_file->authenticator();
  auto http = OpenHttp(config);
  if (!http.ok()) return Fail(http.status());
  auto server = rpc::Server::Start(options, &context, std::move(inherited));
  if (!server.ok()) return Fail(server.status());
  const auto web = ServeHttp(config, options, tls->get(), *std::move(http), server->get());
  const absl::Status announced = Announce(config, **server, web.get());
  if (!announced.ok()) return Fail(announced);
  writable.Set(server->get());
  starting.reset();
  const bool finished = ServeUntilSignal(config, signals, &*monitor, &context, auth_file,
                                         tls->get(), server->get(), web.get(), &writable);
  writable.Set(nullptr);
  DeletePortFiles(config);
  if (!finished) {
    spdlog::warn(
        "calls were still active after the grace period, or their callers received nothing, "
        "and were cancelled");
  }
  store::WaitForAnswers(archive);  // callbacks of calls that have ended may still use the pool
  pool.reset();                    // remaining runs end before the objects that they use
  store::WaitForAnswers(archive);  // callbacks refer to the registry's models
  ops::ReportLeftOut(/*at_end=*/true);
  return 0;
}

}  // namespace
}  // namespace backprop

int main(int argc, char** argv) try {
  auto parsed = backprop::ops::ParseCommandLine(argc, argv, backprop::Version());
  if (!parsed.config.has_value()) return parsed.exit_status;
  if (parsed.config->print_permissions) {
    std::printf("%s", backprop::rpc::PermissionsAsMarkdown().c_str());
    return 0;
  }
  if (!parsed.config->health_check.empty()) {
    const int status = backprop::rpc::CheckHealth(parsed.config->health_check, parsed.config->tls);
    backprop::EndGrpc();
    return status;
  }
  backprop::ops::TuneAllocator(parsed.config->limits.memory_limit_bytes, parsed.config->threads);
  const sigset_t signals = backprop::ops::TakeSignals();
  backprop::ops::SetUpLogging(parsed.config->log_level, parsed.config->log_format);
  auto inherited = backprop::ops::TakeInheritedSockets(&*parsed.config);
  if (!inherited.ok()) return backprop::Fail(inherited.status());
  const int status = backprop::Serve(*parsed.config, *std::move(inherited), signals);
  if (status == 0) {
    backprop::EndGrpc();
    spdlog::info("stopped");  // the store is closed by now
  }
  return status;
} catch (const std::system_error& error) {
  // The system did not allow another thread.
  return backprop::Fail(absl::UnavailableError(
      absl::StrCat(error.what(), ": a system limit is too low (ulimit -u, -v)")));
} catch (const std::bad_alloc&) {
  return backprop::Fail(absl::UnavailableError(
      "out of memory: a system limit is too low (ulimit -v, or the cgroup's)"));
}
