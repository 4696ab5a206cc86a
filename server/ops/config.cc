#include "server/ops/config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/ops/cgroup.h"
#include "server/ops/process_memory.h"
#include "server/ops/shown_flags.h"

namespace backprop::ops {
namespace {

constexpr char kFromPortFile[] = "port-file";  // value of --health-check given without an address

// --max-models → BACKPROPD_MAX_MODELS
std::string EnvironmentName(const std::string& flag) {
  std::string name = "BACKPROPD_";
  for (char c : flag.substr(2)) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

CLI::Option* Add(CLI::Option* option, const std::string& flag, const std::string& group) {
  return option->envname(EnvironmentName(flag))->group(group);
}

void AddLimits(CLI::App* app, base::Limits* limits) {
  struct Limit {
    const char* flag;
    int64_t* value;
    const char* help;
    int64_t most = int64_t{1} << 53;
  };
  const Limit all[] = {
      {"--max-models", &limits->max_models, "Maximum number of models"},
      {"--max-parameters", &limits->max_parameters, "Maximum number of parameters of a model"},
      {"--max-total-parameters", &limits->max_total_parameters,
       "Maximum number of parameters of all models, including optimiser state"},
      {"--max-layers", &limits->max_layers, "Maximum number of layers of a model"},
      {"--max-rows", &limits->max_rows, "Maximum number of rows in a request"},
      {"--max-message-bytes", &limits->max_message_bytes,
       "Maximum size in bytes of a request or response",
       int64_t{2000} << 20},  // gRPC stores the limit in an int
      {"--max-workspace-bytes", &limits->max_workspace_bytes,
       "Maximum working memory in bytes of a pass over a batch"},
      {"--max-concurrent-runs", &limits->max_concurrent_runs,
       "Maximum number of concurrent training runs"},
  };
  for (const Limit& limit : all) {
    Add(app->add_option(limit.flag, *limit.value, limit.help), limit.flag, "Limits")
        ->check(CLI::Range(int64_t{1}, limit.most))
        ->type_name("N")
        ->capture_default_str();
  }
}

// Limits on what one peer can hold.
void AddPeerFlags(CLI::App* app, Config* config) {
  Add(app->add_option("--max-connections-per-peer", config->max_connections_per_peer,
                      "Maximum number of open connections of one IP address (of IPv6: one /64). "
                      "Unix sockets are not limited. Default: a quarter of --max-connections, at "
                      "least 16"),
      "--max-connections-per-peer", "Listening")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->type_name("N");
  Add(app->add_option("--max-concurrent-streams", config->transport.max_concurrent_streams,
                      "Maximum number of active calls on one connection; further ones wait in the "
                      "client"),
      "--max-concurrent-streams", "Listening")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  Add(app->add_option("--max-metadata-bytes", config->transport.max_metadata_bytes,
                      "Maximum size in bytes of the metadata of a call, with 32 bytes for each "
                      "entry; a call with more gets RESOURCE_EXHAUSTED"),
      "--max-metadata-bytes", "Listening")
      ->check(CLI::Range(1024, 1 << 24))
      ->type_name("N")
      ->capture_default_str();
  Add(app->add_option(
          "--max-in-flight-bytes", config->transport.max_in_flight_bytes,
          "Memory, such as 500MB, for connections and for requests that are being received, as "
          "much again for the requests of active calls, and as much again for large responses "
          "and downloads that are being sent. Above it the server reads more slowly, cancels "
          "calls, and rejects requests and large responses. 0: no limit. Default: a quarter of "
          "--memory-limit, at least 64MB"),
      "--max-in-flight-bytes", "Limits")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES")
      ->default_str("auto");
}

// `zero` is the meaning of the value 0.
void AddConnectionFlags(CLI::App* app, Config* config) {
  Add(app->add_option(
          "--max-connections", config->max_connections,
          "Maximum number of open connections; further ones are closed at once. Default: three "
          "quarters of the open files that the system allows, at most 10,000"),
      "--max-connections", "Listening")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->type_name("N");
  struct Seconds {
    const char* flag;
    absl::Duration* value;
    absl::Duration zero;
    const char* help;
  };
  rpc::KeepaliveOptions& keepalive = config->keepalive;
  const Seconds all[] = {
      {"--keepalive-time", &keepalive.time, absl::InfiniteDuration(),
       "Idle seconds on a connection after which the server pings the client. 0: never"},
      {"--keepalive-timeout", &keepalive.timeout, absl::InfiniteDuration(),
       "Seconds without a response to a ping after which the connection is closed and its runs "
       "stop. 0: never"},
      {"--handshake-timeout", &config->handshake_timeout, absl::InfiniteDuration(),
       "Seconds that a new connection has for the handshake of TLS and HTTP/2. 0: no limit"},
      {"--min-ping-interval", &keepalive.min_client_interval, absl::ZeroDuration(),
       "Minimum seconds between pings of a client; a client that pings more often is disconnected. "
       "0: no minimum"},
      {"--max-connection-idle", &config->transport.max_idle, absl::InfiniteDuration(),
       "Seconds without a call after which a connection is closed; clients open another one for "
       "their next call. 0: never"},
      {"--max-connection-age", &config->transport.max_age, absl::InfiniteDuration(),
       "Seconds after which a connection gets no new calls; clients open another one for them. 0: "
       "never"},
      {"--max-connection-age-grace", &config->transport.max_age_grace, absl::InfiniteDuration(),
       "Seconds that the calls on a connection have to end after --max-connection-age, before they "
       "are cancelled. 0: no limit"},
      {"--stream-idle-timeout", &config->stream_idle_timeout, absl::InfiniteDuration(),
       "Seconds after which a StepStream, an upload or a download ends with ABORTED if its caller "
       "sends and reads nothing. 0: never"},
  };
  for (const Seconds& seconds : all) {
    const auto set = [value = seconds.value, zero = seconds.zero](const double& given) {
      *value = given > 0 ? absl::Seconds(given) : zero;
    };
    Add(app->add_option_function<double>(seconds.flag, set, seconds.help), seconds.flag,
        "Listening")
        ->check(CLI::Range(0.0, 86400.0))
        ->type_name("SECONDS")
        ->default_str(absl::StrCat(*seconds.value == absl::InfiniteDuration()
                                       ? 0
                                       : absl::ToDoubleSeconds(*seconds.value)));
  }
}

// The values of flags that the configuration holds in another form.
struct RawFlags {
  double grace_seconds = 10;
  double drain_delay_seconds = 0;
  double mark_seconds = 1;
  double slow_request_seconds = 0;
  double queue_delay_target_seconds = 0.02;
  std::optional<int64_t> max_active_calls_per_project;
  std::string log_format = "text";
  std::string unix_socket_mode = "0600";
  rpc::TlsFiles tls;
  std::optional<std::string> client_auth;
};

// Limits of the calls that wait (docs/overload.md).
void AddOverloadFlags(CLI::App* app, Config* config, RawFlags* raw) {
  Add(app->add_option(
          "--max-active-calls", config->overload.max_active_calls,
          "Maximum number of calls with one request and one response that were received and not "
          "answered; further ones get UNAVAILABLE (OVERLOADED). 0: no limit"),
      "--max-active-calls", "Limits")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->type_name("N")
      ->capture_default_str();
  Add(app->add_option(
          "--max-active-calls-per-project", raw->max_active_calls_per_project,
          "The same for each project. 0: no limit. Default: with --auth-file as many as all "
          "projects together leave free, so that one project gets at most half and there is "
          "always room for others; otherwise no limit"),
      "--max-active-calls-per-project", "Limits")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->type_name("N");
  Add(app->add_option(
          "--queue-delay-target", raw->queue_delay_target_seconds,
          "Seconds that calls should wait at most. If all calls of a queue wait for longer during "
          "ten times as long, expensive calls that would wait for longer get UNAVAILABLE "
          "(OVERLOADED), until none had to be rejected for as long. 0: never"),
      "--queue-delay-target", "Limits")
      ->check(CLI::Range(0.0, 60.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

// Refuses permissions that are not octal, such as 0660.
std::string CheckMode(const std::string& text) {
  const bool octal =
      !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos;
  if (octal && std::stoul(text, nullptr, 8) <= 0777) return "";
  return "expected permissions in octal, 0000 to 0777, got \"" + text + "\"";
}

void AddUnixSocketFlags(CLI::App* app, Config* config, RawFlags* raw) {
  Add(app->add_option("--unix-socket", config->unix_socket,
                      "Unix socket to listen on, in addition to --listen"),
      "--unix-socket", "Listening")
      ->type_name("PATH");
  Add(app->add_option(
          "--unix-socket-mode", raw->unix_socket_mode,
          "Permissions of the files of Unix sockets, in octal. Users that may write to the "
          "file can connect; by default only the server's own user and root"),
      "--unix-socket-mode", "Listening")
      ->check(CLI::Validator(CheckMode, ""))
      ->type_name("MODE")
      ->capture_default_str();
  Add(app->add_option("--unix-socket-owner", config->unix_access.owner,
                      "Owner of the files of Unix sockets: user, user:group or :group. Default: "
                      "those of the process"),
      "--unix-socket-owner", "Listening")
      ->type_name("OWNER");
}

// An empty path, for example of an unset variable, must not turn encryption off.
std::string CheckPath(const std::string& path) { return path.empty() ? "must not be empty" : ""; }

void AddTlsFlags(CLI::App* app, RawFlags* raw) {
  const auto file = [&](const char* flag, std::string* path, const char* help) {
    return Add(app->add_option(flag, *path, help), flag, "Encryption")
        ->check(CLI::Validator(CheckPath, ""))
        ->type_name("FILE");
  };
  CLI::Option* const certificate =
      file("--tls-cert", &raw->tls.certificate,
           "The server's certificate, then its intermediate ones, in PEM. With it TCP addresses "
           "serve TLS 1.2 and 1.3 only; without it, clear text. Unix sockets stay clear text. The "
           "files of TLS are read again when they change");
  CLI::Option* const key = file("--tls-key", &raw->tls.key,
                                "The private key of --tls-cert in PEM, without a passphrase");
  certificate->needs(key);
  key->needs(certificate);
  file("--tls-client-ca", &raw->tls.client_ca,
       "Certificates in PEM of the authorities whose client certificates are accepted")
      ->needs(certificate);
  Add(app->add_option("--tls-client-auth", raw->client_auth,
                      "Whether clients need a certificate. Default: require with --tls-client-ca, "
                      "otherwise none"),
      "--tls-client-auth", "Encryption")
      ->check(CLI::IsMember({"none", "optional", "require"}))
      ->needs(certificate);
}

// The files of TLS, unless the server is to use clear text.
std::optional<rpc::TlsFiles> TlsFilesFrom(const RawFlags& raw) {
  if (raw.tls.certificate.empty()) return std::nullopt;
  rpc::TlsFiles files = raw.tls;
  const std::string by_default = files.client_ca.empty() ? "none" : "require";
  const std::string client_auth = raw.client_auth.value_or(by_default);
  files.client_auth = client_auth == "none"       ? rpc::ClientAuth::kNone
                      : client_auth == "optional" ? rpc::ClientAuth::kOptional
                                                  : rpc::ClientAuth::kRequire;
  return files;
}

void AddAdminFlags(CLI::App* app, Config* config) {
  Add(app->add_option(
          "--admin-listen", config->admin_listen,
          "Address, host:port or unix:path, that serves AdminService, channelz and reflection; the "
          "other addresses then do not. May be repeated. Default: --listen serves them"),
      "--admin-listen", "Listening")
      ->type_name("ADDRESS");
  Add(app->add_option("--admin-port-file", config->admin_port_file,
                      "File to which the server writes the first address of --admin-listen once "
                      "it accepts calls, before that of --port-file"),
      "--admin-port-file", "Listening")
      ->type_name("PATH");
}

// Refuses what is no origin as browsers write it.
std::string CheckOrigin(const std::string& origin) {
  const size_t scheme = origin.find("://");
  const bool valid = scheme != std::string::npos && scheme > 0 && scheme + 3 < origin.size() &&
                     origin.find('/', scheme + 3) == std::string::npos &&
                     origin.find_first_of(" *,\"") == std::string::npos;
  if (origin == "*" || valid) return "";
  return "expected an origin such as https://example.org, without a path, or *; got \"" + origin +
         "\"";
}

void AddHttpFlags(CLI::App* app, Config* config) {
  Add(app->add_option(
          "--http", config->http,
          "Address, host:port or unix:path, that serves all RPCs over HTTP/1.1 with JSON or "
          "protobuf, by the Connect protocol and gRPC-Web, and /healthz, /readyz and /metrics "
          "(docs/http.md). With --tls-cert over TLS. May be repeated. Default: no HTTP"),
      "--http", "Listening")
      ->type_name("ADDRESS");
  Add(app->add_option("--http-port-file", config->http_port_file,
                      "File to which the server writes the first address of --http once it "
                      "accepts calls, before that of --port-file"),
      "--http-port-file", "Listening")
      ->type_name("PATH");
  Add(app->add_option("--http-allow-origin", config->http_allow_origin,
                      "Origin, such as https://example.org, whose pages browsers may let call the "
                      "server over HTTP (CORS); * for all. May be repeated. Default: none"),
      "--http-allow-origin", "Access")
      ->check(CLI::Validator(CheckOrigin, ""))
      ->type_name("ORIGIN");
}

void AddListeningFlags(CLI::App* app, Config* config, RawFlags* raw) {
  Add(app->add_option(
          "--listen", config->listen,
          "TCP address to listen on, host:port. Port 0: any free port. May be repeated"),
      "--listen", "Listening")
      ->type_name("ADDRESS")
      ->capture_default_str();
  AddUnixSocketFlags(app, config, raw);
  AddAdminFlags(app, config);
  AddHttpFlags(app, config);
  Add(app->add_option("--port-file", config->port_file,
                      "File to which the server writes its first address once it accepts calls"),
      "--port-file", "Listening")
      ->type_name("PATH");
  Add(app->add_option(
          "--metrics-listen", config->metrics_listen,
          "Address, host:port or unix:path, on which /metrics (Prometheus) and /healthz are served "
          "over HTTP, without encryption and authentication. Default: metrics are not served"),
      "--metrics-listen", "Listening")
      ->type_name("ADDRESS");
  AddConnectionFlags(app, config);
  AddPeerFlags(app, config);
}

// An empty path, for example of a variable that is not set, must not turn authentication off.
std::string RefuseEmpty(const std::string& path) { return path.empty() ? "must not be empty" : ""; }

void AddAccessFlags(CLI::App* app, Config* config) {
  Add(app->add_option("--auth-file", config->auth_file,
                      "JSON file with the principals that may call the server, their tokens and "
                      "roles, and the quotas of projects (docs/security.md). Read again when it "
                      "changes and at SIGHUP. Without it all callers are anonymous and may do "
                      "everything"),
      "--auth-file", "Access")
      ->check(CLI::Validator(RefuseEmpty, ""))
      ->type_name("FILE");
  Add(app->add_flag("--allow-anonymous", config->allow_anonymous,
                    "Without --auth-file: also listen on addresses that other machines reach. "
                    "All callers that reach them may read, change and delete everything"),
      "--allow-anonymous", "Access");
  Add(app->add_flag("--allow-cleartext", config->allow_cleartext,
                    "With --auth-file: also listen without TLS on addresses that other machines "
                    "reach. Tokens travel in clear text unless something else encrypts them"),
      "--allow-cleartext", "Access");
  Add(app->add_option_function<std::string>(
          "--reflection",
          [config](const std::string& who) { config->reflection_is_public = who == "public"; },
          "Callers of the reflection services if there is an --auth-file: operators only, or all"),
      "--reflection", "Access")
      ->check(CLI::IsMember({"operator", "public"}))
      ->default_str("operator");
  app->add_flag("--print-permissions", config->print_permissions,
                "Print which role may call which RPC, as a Markdown table, and exit")
      ->group("Access");
}

void AddStorageFlags(CLI::App* app, Config* config, RawFlags* raw) {
  Add(app->add_option(
          "--data-dir", config->data_dir,
          "Directory that stores the models; created if it does not exist. Acknowledged "
          "changes are on disk. Without it models are kept in memory only"),
      "--data-dir", "Storage")
      ->type_name("PATH");
  Add(app->add_option(
          "--memory-limit", config->limits.memory_limit_bytes,
          "Memory that the server should use, such as 1GB: models that were not used recently are "
          "evicted to disk until they are used again, and work that does not fit is rejected. 0: "
          "no limit. "
          "Default: two thirds of the cgroup's limit, at most half of the machine's memory"),
      "--memory-limit", "Storage")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES")
      ->default_str("auto");
  Add(app->add_option("--min-free-bytes", config->min_free_bytes,
                      "Disk space in bytes, such as 2GB, that uploads of datasets, imports and "
                      "restores must leave free. Default: a sixteenth of the disk, at most 1GB"),
      "--min-free-bytes", "Storage")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  Add(app->add_option(
          "--mark-interval", raw->mark_seconds,
          "Seconds between stored marks of a run's progress; a crash loses at most this "
          "much of its work"),
      "--mark-interval", "Storage")
      ->check(CLI::Range(0.001, 3600.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

void AddRunningFlags(CLI::App* app, Config* config, RawFlags* raw) {
  Add(app->add_option("--threads", config->threads, "Number of compute threads"), "--threads",
      "Running")
      ->check(CLI::Range(1, 1024))
      ->type_name("N")
      ->capture_default_str();
  Add(app->add_option("--grace", raw->grace_seconds,
                      "Seconds that active calls have to finish after SIGTERM"),
      "--grace", "Running")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  Add(app->add_option("--drain-delay", raw->drain_delay_seconds,
                      "Seconds after SIGTERM in which health is NOT_SERVING and everything else "
                      "works, before the server stops: the time in which load balancers notice. "
                      "A second signal ends the delay"),
      "--drain-delay", "Running")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  Add(app->add_option("--log-level", config->log_level, "Lowest level that is logged"),
      "--log-level", "Running")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  Add(app->add_option("--log-format", raw->log_format, "Format of log lines"), "--log-format",
      "Running")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  Add(app->add_option("--slow-request", raw->slow_request_seconds,
                      "Log a warning for each call with one request and one response that takes at "
                      "least as many seconds, and where the time went. 0: never"),
      "--slow-request", "Running")
      ->check(CLI::Range(0.0, 86400.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  Add(app->add_option("--audit-log", config->audit_log,
                      "File to which a JSON line is appended for each call that changes something; "
                      "stderr is standard error. SIGHUP opens it again, after a rotation"),
      "--audit-log", "Running")
      ->type_name("PATH");
  app->add_option(
         "--health-check", config->health_check,
         "Check whether the server at this address (host:port or unix:path) is serving, and exit "
         "with status 0 or 1. Without an address: the address in the file of --port-file. With "
         "--tls-cert: over TLS, without verifying the server's certificate")
      ->type_name("ADDRESS")
      ->expected(0, 1)
      ->default_str(kFromPortFile)
      ->group("Running");
}

// Divides the memory limit of the process. One part is what the process uses without models, one
// part is the store's. The largest message and workspace are reduced to fit as well, unless the
// operator set them.
void FitToMemory(const CLI::App& app, Config* config) {
  base::Limits* const limits = &config->limits;
  const int64_t limit = limits->memory_limit_bytes;
  if (limit == 0) return;
  const bool on_disk = !config->data_dir.empty();
  int64_t* const store = on_disk ? &config->store_memory_bytes : &config->archive_bytes;
  *store = StoreShare(limit, *store);
  limits->memory_fixed_bytes = kProcessBytes + *store;
  const auto lower = [&](const char* flag, int64_t most, int64_t* value) {
    if (app.get_option(flag)->count() == 0) *value = std::min(*value, most);
  };
  lower("--max-message-bytes", limit / 8, &limits->max_message_bytes);
  lower("--max-workspace-bytes", limit / 4, &limits->max_workspace_bytes);
  if (app.get_option("--max-in-flight-bytes")->count() == 0) {
    config->transport.max_in_flight_bytes = std::max(limit / 4, int64_t{64} << 20);
  }
}

// The flags with the values in use. Defaults that depend on the memory limit are known by now.
std::vector<rpc::ShownFlag> FlagsInUse(CLI::App* app) {
  for (const char* flag : {"--memory-limit", "--max-message-bytes", "--max-workspace-bytes",
                           "--max-in-flight-bytes"}) {
    app->get_option(flag)->capture_default_str();
  }
  return ShownFlags(*app);
}

// Returns the address of the server that wrote `port_file`, reachable from this machine. Returns an
// empty string, after a line on standard error, if there is none.
std::string AddressIn(const std::string& port_file) {
  std::ifstream file(port_file);
  std::string address;
  std::getline(file, address);
  if (address.empty()) {
    const std::string why = port_file.empty() ? "requires an address or --port-file"
                                              : "no server has written its address to " + port_file;
    std::fprintf(stderr, "backpropd: --health-check: %s\n", why.c_str());
  }
  return absl::StrReplaceAll(address, {{"0.0.0.0:", "127.0.0.1:"}, {"[::]:", "[::1]:"}});
}

// Returns the flags, with their values, of the environment variables that are set and whose flags
// are not on the command line. An empty variable of a flag without a value counts as not set.
std::vector<std::string> FlagsFromEnvironment(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    const std::string flag = option->get_name();
    const char* value =
        option->get_envname().empty() ? nullptr : std::getenv(option->get_envname().c_str());
    const bool given = std::any_of(argv + 1, argv + argc, [&](const std::string& argument) {
      return argument == flag || argument.rfind(flag + "=", 0) == 0;
    });
    if (value == nullptr || given) continue;
    if (*value != '\0') {
      flags.push_back(flag + "=" + value);
    } else if (option->get_items_expected_min() > 0) {
      // As an argument of its own: after "--flag=" CLI11 would take the next argument as the value.
      flags.insert(flags.end(), {flag, ""});
    }
  }
  return flags;
}

// Parses the command line and the environment. Returns an exit status if --help, --version or an
// error was printed.
std::optional<int> Parse(CLI::App* app, int argc, char** argv) {
  try {
    // In CLI11 the file takes precedence over the environment. Variables passed as flags take
    // precedence over the file.
    std::vector<std::string> arguments = FlagsFromEnvironment(*app, argc, argv);
    arguments.insert(arguments.end(), argv + 1, argv + argc);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 expects the reverse order
    app->parse(std::move(arguments));
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    // CLI11 reports --help and --version as errors with status 0; all others are wrong usage.
    return app->exit(error) == 0 ? 0 : 2;
  }
}

// Sets what flags give in another unit or form.
void Convert(const RawFlags& raw, const CLI::App& app, Config* config) {
  config->log_format = raw.log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  config->grace = absl::Seconds(raw.grace_seconds);
  config->drain_delay = absl::Seconds(raw.drain_delay_seconds);
  config->listen_is_given =
      app.get_option("--listen")->count() > 0 || app.get_option("--unix-socket")->count() > 0;
  config->unix_access.mode = static_cast<mode_t>(std::stoul(raw.unix_socket_mode, nullptr, 8));
  config->tls = TlsFilesFrom(raw);
  config->limits.mark_interval = absl::Seconds(raw.mark_seconds);
  if (raw.slow_request_seconds > 0) config->slow_request = absl::Seconds(raw.slow_request_seconds);
  config->overload.delay_target = absl::Seconds(raw.queue_delay_target_seconds);
  config->overload.max_active_calls_per_project = raw.max_active_calls_per_project.value_or(
      config->auth_file.empty() ? 0 : rpc::OverloadLimits::kAsManyAsAreFree);
}

}  // namespace

Parsed ParseCommandLine(int argc, char** argv, const std::string& version) {
  Config config;
  config.listen = {"127.0.0.1:50051"};
  const CgroupLimits cgroup = ReadCgroupLimits();
  config.threads = UsableThreads(cgroup);
  config.log_level = "info";
  config.limits.memory_limit_bytes = DefaultMemoryLimit(cgroup);
  config.overload.max_active_calls = 4096;
  RawFlags raw;

  CLI::App app(
      "backpropd: a gRPC server that stores, trains and runs small neural networks.\n"
      "Models are stored in --data-dir; without it they are lost when the process ends.\n\n"
      "Example: backpropd --data-dir /var/lib/backpropd --listen 127.0.0.1:50051",
      "backpropd");
  app.set_version_flag("--version", version, "Print version, commit and instruction set, and exit");
  app.set_config("--config", "", "Read flags from an INI or TOML file (listen = \"…\")")
      ->envname("BACKPROPD_CONFIG");
  app.allow_config_extras(CLI::config_extras_mode::error);

  AddListeningFlags(&app, &config, &raw);
  AddAccessFlags(&app, &config);
  AddTlsFlags(&app, &raw);
  AddStorageFlags(&app, &config, &raw);
  AddRunningFlags(&app, &config, &raw);
  AddLimits(&app, &config.limits);
  AddOverloadFlags(&app, &config, &raw);
  app.footer(
      "Every flag can also be set in the environment: --max-models as BACKPROPD_MAX_MODELS.\n"
      "Flags take precedence over the environment, and the environment over --config.\n"
      "SIGTERM, SIGINT and SIGQUIT stop the server gracefully; another one stops it at once.\n"
      "Sockets that systemd passes (LISTEN_FDS) are used in place of --listen and --unix-socket,\n"
      "and those with the name admin in place of --admin-listen.");

  if (const auto status = Parse(&app, argc, argv); status.has_value()) {
    return {std::nullopt, *status};
  }
  if (config.health_check == kFromPortFile) {
    config.health_check = AddressIn(config.port_file);
    if (config.health_check.empty()) return {std::nullopt, 1};
  }
  if (raw.client_auth.value_or("none") != "none" && raw.tls.client_ca.empty()) {
    app.exit(
        CLI::ValidationError("--tls-client-auth " + *raw.client_auth, "requires --tls-client-ca"));
    return {std::nullopt, 2};
  }
  Convert(raw, app, &config);
  FitToMemory(app, &config);
  config.flags = FlagsInUse(&app);
  return {config, 0};
}

}  // namespace backprop::ops
