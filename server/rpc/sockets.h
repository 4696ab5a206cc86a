// Listening sockets, TCP and Unix.
#ifndef BACKPROP_SERVER_RPC_SOCKETS_H_
#define BACKPROP_SERVER_RPC_SOCKETS_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace backprop::rpc {

// Owns a file descriptor, or none.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();
  // Gives up the descriptor without closing it.
  void Release() { fd_ = -1; }

 private:
  int fd_ = -1;
};

// Sockets that listen on one address, non-blocking and closed on exec. "localhost" may have two:
// one for IPv4, one for IPv6.
struct ListeningSockets {
  std::vector<Descriptor> sockets;
  std::string address;  // for clients: "host:port", with the port that was bound, or "unix:path"
  bool IsUnix() const { return address.rfind("unix:", 0) == 0; }
};

// The processes that may connect to a Unix socket are those that may write to its file.
struct UnixSocketAccess {
  mode_t mode = 0600;  // of the file; the umask does not apply
  // "user", "user:group" or ":group", as names or numbers. Empty: those of the process.
  std::string owner;
};

// By what connections of one peer are counted: 4 bytes of an IPv4 address, also of one that is
// mapped to IPv6, or the first 8 bytes of an IPv6 address. Empty for a Unix socket.
std::string PeerOf(const sockaddr_storage& from);

// What an operator reads of a result of PeerOf that is not empty: "192.0.2.1" or "2001:db8::/64".
std::string NameOfPeer(const std::string& peer);

// `address`: "host:port", "[IPv6]:port" or "unix:path". Port 0 selects a free port. 0.0.0.0 and
// [::] both mean all addresses of IPv4 and IPv6. A name is an error if one of its addresses has
// another listener on the port. UNAVAILABLE with advice in the message, which begins with `flag`;
// errors of ListenOnUnixSocket.
absl::StatusOr<ListeningSockets> ListenOn(const std::string& address,
                                          const UnixSocketAccess& access,
                                          const std::string& flag = "--listen");

// Replaces an existing socket file only if no process listens on it, and never replaces a file of
// another kind. No process can connect before the file has its mode and owner. INVALID_ARGUMENT if
// the path is empty or too long for a socket, or if there is no such user or group; UNAVAILABLE.
absl::StatusOr<ListeningSockets> ListenOnUnixSocket(const std::string& path,
                                                    const UnixSocketAccess& access,
                                                    const std::string& flag = "--unix-socket");

// Takes a socket that another process has opened, for example systemd, and makes it non-blocking
// and closed on exec. INVALID_ARGUMENT, which says what it is instead, unless it is a TCP socket,
// or a Unix stream socket with a path, that listens.
absl::StatusOr<ListeningSockets> Inherit(Descriptor socket);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SOCKETS_H_
