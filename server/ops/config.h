// The server's configuration. This is the only place that reads flags, the environment and
// configuration files.
#ifndef BACKPROP_SERVER_OPS_CONFIG_H_
#define BACKPROP_SERVER_OPS_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/rpc/certificates.h"
#include "server/rpc/introspection.h"
#include "server/rpc/server.h"
#include "server/rpc/sockets.h"

namespace backprop::ops {

enum class LogFormat { kText, kJson };

struct Config {
  std::vector<std::string> listen;
  bool listen_is_given = false;           // or unix_socket is: not the default
  std::vector<std::string> admin_listen;  // empty: `listen` serves the administrators too
  // Addresses of sockets that another process has opened (TakeInheritedSockets), for `listen` and
  // for `admin_listen`.
  std::vector<std::string> inherited_listen;
  std::vector<std::string> inherited_admin_listen;
  std::vector<std::string> http;               // empty: no HTTP
  std::vector<std::string> http_allow_origin;  // of pages that may call over HTTP; "*": all
  std::string unix_socket;
  rpc::UnixSocketAccess unix_access;
  std::optional<rpc::TlsFiles> tls;  // unset: clear text
  absl::Duration handshake_timeout = rpc::ServerOptions{}.handshake_timeout;
  std::string port_file;
  std::string admin_port_file;            // the same for admin_listen
  std::string http_port_file;             // the same for http
  std::string metrics_listen;             // empty: metrics are not served
  std::string auth_file;                  // empty: callers are anonymous and may do everything
  bool allow_anonymous = false;           // on addresses that are not local, without auth_file
  bool allow_cleartext = false;           // on addresses that are not local, with auth_file
  bool reflection_is_public = false;      // also with auth_file
  bool print_permissions = false;         // print the table of RPCs and roles, and exit
  std::string data_dir;                   // empty: models are kept in memory only
  std::optional<int64_t> min_free_bytes;  // unset: derived from the size of the disk
  int threads = 0;
  std::string log_level;
  std::string audit_log;  // path, or "stderr"; empty: none
  absl::Duration slow_request = absl::InfiniteDuration();
  LogFormat log_format = LogFormat::kText;
  absl::Duration grace;
  absl::Duration drain_delay;
  base::Limits limits;
  rpc::KeepaliveOptions keepalive;
  std::optional<int64_t> max_connections;           // unset: derived from the limit of open files
  std::optional<int64_t> max_connections_per_peer;  // unset: a quarter of max_connections
  rpc::TransportLimits transport;
  rpc::OverloadLimits overload;
  absl::Duration stream_idle_timeout = absl::Minutes(10);  // of Calls::EndIdle
  int64_t store_memory_bytes = int64_t{256} << 20;         // caches of the store, with data_dir
  int64_t archive_bytes = int64_t{4} << 30;  // checkpoints and datasets, without data_dir
  std::string health_check;                  // if set: query the health of this address and exit
  std::vector<rpc::ShownFlag> flags;         // all flags as given, without secrets, for operators
};

// The configuration; or, if --help, --version or an error was printed, an exit status: 0, or 2 for
// wrong usage.
struct Parsed {
  std::optional<Config> config;
  int exit_status = 0;
};

// Parses the command line. Flags take precedence over environment variables (BACKPROPD_LISTEN …),
// and these over the file of --config. `version` is the output of --version.
Parsed ParseCommandLine(int argc, char** argv, const std::string& version);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_CONFIG_H_
