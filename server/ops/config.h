// What the operator can set: the one place that reads flags, the environment and files.
#ifndef BACKPROP_SERVER_OPS_CONFIG_H_
#define BACKPROP_SERVER_OPS_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/rpc/server.h"
#include "server/session/limits.h"

namespace backprop::ops {

enum class LogFormat { kText, kJson };

struct Config {
  std::vector<std::string> listen;
  std::string unix_socket;
  std::string port_file;
  std::string data_dir;                   // empty: models live in memory
  std::optional<int64_t> min_free_bytes;  // of the disk; none: by its size
  int threads = 0;
  std::string log_level;
  LogFormat log_format = LogFormat::kText;
  absl::Duration grace;
  session::Limits limits;
  rpc::KeepaliveOptions keepalive;
  std::optional<int64_t> max_connections;           // default: what the limit of open files leaves
  int64_t store_memory_bytes = int64_t{256} << 20;  // of the store's caches, with data_dir
  int64_t archive_bytes = int64_t{4} << 30;         // of checkpoints and datasets, without
  std::string health_check;                         // an address: ask its health instead of serving
};

// Either a configuration, or an exit status after --help, --version or an error has been printed:
// 0, or 2 for wrong usage.
struct Parsed {
  std::optional<Config> config;
  int exit_status = 0;
};

// Flags go before environment variables (BACKPROPD_LISTEN …), these before the file of --config.
// `version` is what --version prints.
Parsed ParseCommandLine(int argc, char** argv, const std::string& version);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_CONFIG_H_
