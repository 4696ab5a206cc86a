#include "server/ops/socket_activation.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace backprop::ops {
namespace {

constexpr int kMaxSockets = 64;

// Returns the value of a variable, which it removes.
std::optional<std::string> Take(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  std::string taken = value;
  unsetenv(name);
  return taken;
}

absl::Status Wrong(const char* variable, const std::string& expected, const std::string& value) {
  return absl::InvalidArgumentError(
      absl::StrCat(variable, ": expected ", expected, ", got \"", value, "\""));
}

// The name of each descriptor.
absl::StatusOr<std::vector<std::string>> Names() {
  const auto pid = Take("LISTEN_PID");
  const auto count = Take("LISTEN_FDS");
  const auto names = Take("LISTEN_FDNAMES");
  Take("LISTEN_PIDFDID");
  if (!pid.has_value() || !count.has_value()) return std::vector<std::string>();
  int64_t process = 0;
  if (!absl::SimpleAtoi(*pid, &process)) return Wrong("LISTEN_PID", "a process id", *pid);
  if (process != getpid()) return std::vector<std::string>();
  int sockets = 0;
  if (!absl::SimpleAtoi(*count, &sockets) || sockets < 0 || sockets > kMaxSockets) {
    return Wrong("LISTEN_FDS", absl::StrCat("0 to ", kMaxSockets), *count);
  }
  const auto size = static_cast<size_t>(sockets);
  if (!names.has_value()) return std::vector<std::string>(size, "unknown");
  std::vector<std::string> split = absl::StrSplit(*names, ':');
  if (split.size() != size) {
    return Wrong("LISTEN_FDNAMES", absl::StrCat(sockets, " names with colons between them"),
                 *names);
  }
  return split;
}

std::vector<std::string> AddressesOf(const std::vector<rpc::ListeningSockets>& sockets) {
  std::vector<std::string> addresses;
  for (const rpc::ListeningSockets& listening : sockets) addresses.push_back(listening.address);
  return addresses;
}

void Replace(const rpc::InheritedSockets& sockets, Config* config) {
  config->inherited_listen = AddressesOf(sockets.main);
  config->inherited_admin_listen = AddressesOf(sockets.admin);
  if (!sockets.main.empty()) {
    if (config->listen_is_given) {
      spdlog::warn("--listen and --unix-socket are ignored: sockets were inherited (LISTEN_FDS)");
    }
    config->listen.clear();
    config->unix_socket.clear();
  }
  if (!sockets.admin.empty()) {
    if (!config->admin_listen.empty()) {
      spdlog::warn("--admin-listen is ignored: a socket was inherited for it (LISTEN_FDS)");
    }
    config->admin_listen.clear();
  }
}

}  // namespace

absl::StatusOr<rpc::InheritedSockets> TakeInheritedSockets(Config* config, int first_descriptor) {
  const auto names = Names();
  if (!names.ok()) return names.status();
  rpc::InheritedSockets sockets;
  int descriptor = first_descriptor;
  for (const std::string& name : *names) {
    auto socket = rpc::Inherit(rpc::Descriptor(descriptor));
    if (!socket.ok()) {
      return absl::Status(socket.status().code(),
                          absl::StrCat("LISTEN_FDS: descriptor ", descriptor, " (", name,
                                       "): ", socket.status().message()));
    }
    (name == "admin" ? sockets.admin : sockets.main).push_back(*std::move(socket));
    ++descriptor;
  }
  Replace(sockets, config);
  return sockets;
}

}  // namespace backprop::ops
