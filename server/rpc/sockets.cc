#include "server/rpc/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
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
#include <cstddef>
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

absl::Status CannotListen(const std::string& flag, const std::string& address,
                          const std::string& why) {
  return absl::UnavailableError(absl::StrCat(flag, " ", address, ": cannot listen (", why,
                                             "); check that the address is host:port and that the "
                                             "port is free; port 0 selects a free port"));
}

absl::Status CannotListenOnUnixSocket(const std::string& flag, const std::string& path,
                                      const std::string& why) {
  return absl::UnavailableError(absl::StrCat(flag, " ", path, ": cannot listen (", why,
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

// Whether the list has the address of `entry` before it: a hosts file may name it twice.
bool IsRepeated(const addrinfo* list, const addrinfo* entry) {
  for (; list != entry; list = list->ai_next) {
    if (list->ai_addrlen == entry->ai_addrlen &&
        std::memcmp(list->ai_addr, entry->ai_addr, entry->ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
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
// none. Sets `*taken` if another socket listens on the port that was asked for.
Descriptor ListenOnTcp(const addrinfo& resolved, bool both_families, uint16_t* port,
                       std::string* why, bool* taken) {
  sockaddr_storage address = {};
  std::memcpy(&address, resolved.ai_addr, resolved.ai_addrlen);
  const bool any_port = PortOf(address) == 0;
  if (any_port) SetPort(&address, *port);
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
  if (errno == EADDRINUSE && !any_port) *taken = true;
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

// An option of a socket; -1 on an error.
int OptionOf(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

absl::Status CannotInherit(const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected a TCP or Unix stream socket that listens, got ", what));
}

// The address of a bound socket, as in ListeningSockets.
absl::StatusOr<std::string> AddressOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return CannotInherit(std::strerror(errno));
  }
  char host[INET6_ADDRSTRLEN] = {};
  switch (address.ss_family) {
    case AF_INET:
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, host,
                sizeof(host));
      return absl::StrCat(host, ":", PortOf(address));
    case AF_INET6:
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, host,
                sizeof(host));
      return absl::StrCat("[", host, "]:", PortOf(address));
    case AF_UNIX: {
      const auto& local = reinterpret_cast<const sockaddr_un&>(address);
      const size_t bytes = size - offsetof(sockaddr_un, sun_path);
      const std::string path(local.sun_path, strnlen(local.sun_path, bytes));
      if (path.empty()) return CannotInherit("a Unix socket without a path");
      return absl::StrCat("unix:", path);
    }
    default:
      return CannotInherit(absl::StrCat("a socket of the address family ", address.ss_family));
  }
}

}  // namespace

std::string PeerOf(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    const in_addr& address = reinterpret_cast<const sockaddr_in&>(from).sin_addr;
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  if (from.ss_family != AF_INET6) return "";
  const in6_addr& address = reinterpret_cast<const sockaddr_in6&>(from).sin6_addr;
  const auto* const bytes = reinterpret_cast<const char*>(&address);
  if (IN6_IS_ADDR_V4MAPPED(&address)) return {bytes + 12, 4};
  return {bytes, 8};
}

std::string NameOfPeer(const std::string& peer) {
  char name[INET6_ADDRSTRLEN] = {};
  if (peer.size() == 4) return inet_ntop(AF_INET, peer.data(), name, sizeof(name));
  std::string address = peer;
  address.resize(16);
  return absl::StrCat(inet_ntop(AF_INET6, address.data(), name, sizeof(name)), "/64");
}

void Descriptor::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<ListeningSockets> ListenOn(const std::string& address,
                                          const UnixSocketAccess& access, const std::string& flag) {
  if (absl::StartsWith(address, "unix:")) {
    return ListenOnUnixSocket(address.substr(5), access, flag);
  }
  const HostPort at = Split(address);
  if (at.host.empty()) return CannotListen(flag, address, "not host:port");
  std::string why = "no such address";
  uint16_t port = 0;
  bool taken = false;
  ListeningSockets listening;
  const auto listen_on = [&](const addrinfo& resolved, bool both_families) {
    Descriptor fd = ListenOnTcp(resolved, both_families, &port, &why, &taken);
    if (fd.open()) listening.sockets.push_back(std::move(fd));
  };
  const bool wildcard = at.host == "0.0.0.0" || at.host == "::";
  if (wildcard) {
    // If the system has IPv6, one IPv6 socket accepts connections of both families.
    const Addresses any = Resolve("::", at.port, &why);
    if (any != nullptr) listen_on(*any, true);
  }
  if (listening.sockets.empty() && !taken) {
    const Addresses resolved = Resolve(at.host, at.port, &why);
    for (const addrinfo* next = resolved.get(); next != nullptr && !taken; next = next->ai_next) {
      if (!IsRepeated(resolved.get(), next)) listen_on(*next, false);
    }
  }
  // With one address of a name, this server would get an unknown part of another one's callers.
  if (listening.sockets.empty() || taken) return CannotListen(flag, address, why);
  listening.address = absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  return listening;
}

absl::StatusOr<ListeningSockets> ListenOnUnixSocket(const std::string& path,
                                                    const UnixSocketAccess& access,
                                                    const std::string& flag) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", path, ": the path must have 1 to ",
                                                   sizeof(address.sun_path) - 1, " bytes, got ",
                                                   path.size()));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto owner = ParseOwner(access.owner);
  if (!owner.ok()) return owner.status();
  if (AnotherServerListens(address)) {
    return absl::UnavailableError(absl::StrCat(
        flag, " ", path, ": another server listens on this path; stop it or choose another path"));
  }
  struct stat file = {};
  if (lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode)) unlink(path.c_str());
  Descriptor fd(socket(AF_UNIX, kSocketFlags, 0));
  if (!fd.open() ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return CannotListenOnUnixSocket(flag, path, std::strerror(errno));
  }
  // Connections are refused before listen(), whatever the mode is.
  absl::Status ready = SetAccess(path, access, *owner);
  if (ready.ok() && listen(fd.get(), kBacklog) != 0) {
    ready = CannotListenOnUnixSocket(flag, path, std::strerror(errno));
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

absl::StatusOr<ListeningSockets> Inherit(Descriptor socket) {
  const int fd = socket.get();
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return CannotInherit("a descriptor that is not open");
  switch (OptionOf(fd, SO_TYPE)) {
    case SOCK_STREAM:
      break;
    case -1:
      return CannotInherit("a descriptor that is no socket");
    case SOCK_DGRAM:
      return CannotInherit("a datagram socket");
    default:
      return CannotInherit("a socket of another type");
  }
  if (OptionOf(fd, SO_ACCEPTCONN) != 1) return CannotInherit("a socket that does not listen");
  auto address = AddressOf(fd);
  if (!address.ok()) return address.status();
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot be used: ", std::strerror(errno)));
  }
  if (!absl::StartsWith(*address, "unix:")) SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  ListeningSockets listening;
  listening.sockets.push_back(std::move(socket));
  listening.address = *std::move(address);
  return listening;
}

}  // namespace backprop::rpc
