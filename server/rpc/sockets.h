// Listening sockets, TCP and Unix.
#ifndef BACKPROP_SERVER_RPC_SOCKETS_H_
#define BACKPROP_SERVER_RPC_SOCKETS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace backprop::rpc {

// Owns a descriptor.
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

 private:
  int fd_ = -1;
};

// Sockets that take connections for one address, non-blocking and closed on exec. "localhost" may
// have two: one of IPv4, one of IPv6.
struct ListeningSockets {
  std::vector<Descriptor> sockets;
  std::string address;  // what clients dial: "host:port", or "unix:path"
};

// `address`: "host:port", "[IPv6]:port" or "unix:path"; port 0 takes a free one. The wildcards
// 0.0.0.0 and [::] both mean every address of both families. UNAVAILABLE says what to do.
absl::StatusOr<ListeningSockets> ListenOn(const std::string& address);

// Replaces a socket file that nobody listens on, never one of a running server and never another
// kind of file.
absl::StatusOr<ListeningSockets> ListenOnUnixSocket(const std::string& path);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_SOCKETS_H_
