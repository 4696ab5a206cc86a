// A proxy whose connections a test can break.
#ifndef BACKPROP_TESTS_CLIENT_BACKPROP_CUTTING_PROXY_H_
#define BACKPROP_TESTS_CLIENT_BACKPROP_CUTTING_PROXY_H_

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace backprop {

// Listens on a Unix socket and forwards bytes to and from another one. Thread-safe.
class CuttingProxy {
 public:
  CuttingProxy(const std::string& path, std::string behind)
      : path_(path), behind_(std::move(behind)), listener_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    unlink(path_.c_str());
    const sockaddr_un address = AddressOf(path_);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener_, 16) != 0) {
      throw std::runtime_error("cannot listen on " + path_);
    }
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~CuttingProxy() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    Cut();
    for (std::thread& thread : passing_) thread.join();
    for (const int socket : opened_) close(socket);
    close(listener_);
    unlink(path_.c_str());
  }

  // Breaks all connections; new ones can be made.
  void Cut() {
    const std::lock_guard lock(mu_);
    for (const int socket : opened_) shutdown(socket, SHUT_RDWR);
  }

 private:
  static sockaddr_un AddressOf(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    return address;
  }

  void Accept() {
    for (;;) {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      const int server = socket(AF_UNIX, SOCK_STREAM, 0);
      const sockaddr_un address = AddressOf(behind_);
      if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        close(client);
        close(server);
        continue;
      }
      const std::lock_guard lock(mu_);
      opened_.insert(opened_.end(), {client, server});
      passing_.emplace_back([client, server] { Pass(client, server); });
      passing_.emplace_back([client, server] { Pass(server, client); });
    }
  }

  static void Pass(int from, int to) {
    std::array<char, 65536> bytes;
    for (ssize_t count; (count = read(from, bytes.data(), bytes.size())) > 0;) {
      for (ssize_t at = 0; at < count;) {
        const ssize_t sent =
            send(to, bytes.data() + at, static_cast<size_t>(count - at), MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += sent;
      }
    }
    shutdown(to, SHUT_RDWR);
  }

  const std::string path_;
  const std::string behind_;
  const int listener_;
  std::mutex mu_;
  std::vector<int> opened_;           // under mu_
  std::vector<std::thread> passing_;  // added by acceptor_
  std::thread acceptor_;
};

}  // namespace backprop

#endif  // BACKPROP_TESTS_CLIENT_BACKPROP_CUTTING_PROXY_H_
