#include "server/rpc/sockets.h"

#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace backprop::rpc {
namespace {

constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
// The system reduces it to its own limit, net.core.somaxconn.
constexpr int kBacklog = 65535;

absl::Status CannotListen(const std::string& address, const std::string& why) {
  return absl::UnavailableError(absl::StrCat("--listen ", address, ": cannot listen (", why,
                                             "); check that the address is host:port and that the "
                                             "port is free; port 0 selects a free port"));
}

absl::Status CannotListenOnUnixSocket(const std::string& path, const std::string& why) {
  return absl::UnavailableError(absl::StrCat("--unix-socket ", path, ": cannot listen (", why,
                                             "); check that its directory is writable"));
}

struct HostPort {
  std::string host;
  std::string port;
};

// Returns empty fields if `address` is not of the form host:port or [IPv6]:port.
HostPort Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) return {};
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return {};  // an IPv6 address without brackets
  }
  return {host, address.substr(colon + 1)};
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses Resolve(const std::string& host, const std::string& port, std::string* why) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    *why = gai_strerror(error);
    found = nullptr;
  }
  return {found, &freeaddrinfo};
}

uint16_t PortOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr_storage* address, uint16_t port) {
  if (address->ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(port);
  }
}

void SetOption(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof(value));
}

// Listens on one resolved address. If it has port 0, uses `*port`: the port of an earlier socket,
// or 0 for a free one. Sets `*port` to the port that was bound. On an error, sets `why` and returns
// none.
Descriptor ListenOnTcp(const addrinfo& resolved, bool both_families, uint16_t* port,
                       std::string* why) {
  sockaddr_storage address = {};
  std::memcpy(&address, resolved.ai_addr, resolved.ai_addrlen);
  if (PortOf(address) == 0) SetPort(&address, *port);
  Descriptor fd(socket(resolved.ai_family, kSocketFlags, 0));
  if (fd.open()) {
    // With SO_REUSEADDR a restart does not wait for connections of the previous server to expire.
    // SO_REUSEPORT stays off: two servers on one port would share its connections at random.
    SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    // Accepted sockets inherit TCP_NODELAY. Without it a small reply waits for an acknowledgement.
    SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    if (resolved.ai_family == AF_INET6) {
      SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, both_families ? 0 : 1);
    }
    socklen_t size = sizeof(address);
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), resolved.ai_addrlen) == 0 &&
        listen(fd.get(), kBacklog) == 0 &&
        getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      *port = PortOf(address);
      return fd;
    }
  }
  *why = std::strerror(errno);
  return Descriptor();
}

// Whether a process listens on the socket file. gRPC itself would replace the file without this
// check.
bool AnotherServerListens(const sockaddr_un& address) {
  const Descriptor fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd.open() &&
         connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// Numbers of users and groups; -1 leaves what is there, as in chown().
struct Owner {
  uid_t user = static_cast<uid_t>(-1);
  gid_t group = static_cast<gid_t>(-1);
};

absl::StatusOr<Owner> ParseOwner(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string user = text.substr(0, colon);
  const std::string group = colon < text.size() ? text.substr(colon + 1) : "";
  const auto unknown = [&](const char* kind, const std::string& name) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--unix-socket-owner ", text, ": expected user, user:group or :group; there is no ", kind,
        " \"", name, "\""));
  };
  Owner owner;
  if (!user.empty() && !absl::SimpleAtoi(user, &owner.user)) {
    const passwd* const found = getpwnam(user.c_str());
    if (found == nullptr) return unknown("user", user);
    owner.user = found->pw_uid;
  }
  const bool has_group = colon < text.size();
  if (has_group && !absl::SimpleAtoi(group, &owner.group)) {
    const ::group* const found = getgrnam(group.c_str());
    if (found == nullptr) return unknown("group", group);
    owner.group = found->gr_gid;
  }
  return owner;
}

// Gives the bound socket file its owner and mode.
absl::Status SetAccess(const std::string& path, const UnixSocketAccess& access,
                       const Owner& owner) {
  if (!access.owner.empty() && lchown(path.c_str(), owner.user, owner.group) != 0) {
    return absl::UnavailableError(absl::StrCat("--unix-socket-owner ", access.owner,
                                               ": cannot change the owner of ", path, ": ",
                                               std::strerror(errno)));
  }
  if (chmod(path.c_str(), access.mode) != 0) {
    return absl::UnavailableError(absl::StrCat("--unix-socket-mode: cannot change the mode of ",
                                               path, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

void Descriptor::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<ListeningSockets> ListenOn(const std::string& address,
                                          const UnixSocketAccess& access) {
  if (absl::StartsWith(address, "unix:")) return ListenOnUnixSocket(address.substr(5), access);
  const HostPort at = Split(address);
  if (at.host.empty()) return CannotListen(address, "not host:port");
  std::string why = "no such address";
  uint16_t port = 0;
  ListeningSockets listening;
  const bool wildcard = at.host == "0.0.0.0" || at.host == "::";
  if (wildcard) {
    // If the system has IPv6, one IPv6 socket accepts connections of both families.
    const Addresses any = Resolve("::", at.port, &why);
    if (any != nullptr) {
      Descriptor fd = ListenOnTcp(*any, true, &port, &why);
      if (fd.open()) listening.sockets.push_back(std::move(fd));
    }
  }
  if (listening.sockets.empty()) {
    const Addresses resolved = Resolve(at.host, at.port, &why);
    for (const addrinfo* next = resolved.get(); next != nullptr; next = next->ai_next) {
      Descriptor fd = ListenOnTcp(*next, false, &port, &why);
      if (fd.open()) listening.sockets.push_back(std::move(fd));
    }
  }
  if (listening.sockets.empty()) return CannotListen(address, why);
  listening.address = absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  return listening;
}

absl::StatusOr<ListeningSockets> ListenOnUnixSocket(const std::string& path,
                                                    const UnixSocketAccess& access) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--unix-socket ", path, ": the path must have 1 to ",
                     sizeof(address.sun_path) - 1, " bytes, got ", path.size()));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto owner = ParseOwner(access.owner);
  if (!owner.ok()) return owner.status();
  if (AnotherServerListens(address)) {
    return absl::UnavailableError(
        absl::StrCat("--unix-socket ", path,
                     ": another server listens on this path; stop it or choose another path"));
  }
  struct stat file = {};
  if (lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode)) unlink(path.c_str());
  Descriptor fd(socket(AF_UNIX, kSocketFlags, 0));
  if (!fd.open() ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return CannotListenOnUnixSocket(path, std::strerror(errno));
  }
  // Connections are refused before listen(), whatever the mode is.
  absl::Status ready = SetAccess(path, access, *owner);
  if (ready.ok() && listen(fd.get(), kBacklog) != 0) {
    ready = CannotListenOnUnixSocket(path, std::strerror(errno));
  }
  if (!ready.ok()) {
    unlink(path.c_str());
    return ready;
  }
  ListeningSockets listening;
  listening.sockets.push_back(std::move(fd));
  listening.address = absl::StrCat("unix:", path);
  return listening;
}

}  // namespace backprop::rpc
