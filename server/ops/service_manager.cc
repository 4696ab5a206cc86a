#include "server/ops/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace backprop::ops {
namespace {

absl::Status Unavailable(absl::string_view address) {
  return absl::UnavailableError(
      absl::StrCat("NOTIFY_SOCKET ", address, ": cannot send: ", std::strerror(errno)));
}

}  // namespace

absl::Status NotifyServiceManager(absl::string_view state) {
  const char* const value = std::getenv("NOTIFY_SOCKET");
  if (value == nullptr || *value == '\0') return absl::OkStatus();
  const absl::string_view name(value);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((name[0] != '/' && name[0] != '@') || name.size() < 2 ||
      name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NOTIFY_SOCKET: must be an absolute path, or @ and a name, of at most ",
                     sizeof(address.sun_path) - 1, " bytes; it is \"", name, "\""));
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';  // an abstract address
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return Unavailable(name);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const ssize_t sent = sendto(descriptor, state.data(), state.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  absl::Status status = sent < 0 ? Unavailable(name) : absl::OkStatus();
  close(descriptor);
  return status;
}

}  // namespace backprop::ops
