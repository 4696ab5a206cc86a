// What a client presents to its server. Not installed.
#ifndef BACKPROP_CLIENT_CREDENTIALS_H_
#define BACKPROP_CLIENT_CREDENTIALS_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backprop/security.h"

namespace backprop {

// Reads a token again when its file changes. Thread-safe.
class TokenFile {
 public:
  explicit TokenFile(std::string path) : path_(std::move(path)) {}
  // Sets `token` to the file's token. UNAUTHENTICATED if the file cannot be read or holds no token.
  grpc::Status Get(std::string* token);

 private:
  // What identifies the content of a file.
  struct Stamp {
    uint64_t inode = 0;
    int64_t bytes = 0;
    int64_t modified_ns = 0;
    bool operator==(const Stamp& other) const = default;
  };

  const std::string path_;
  std::mutex mu_;
  // The file is not looked at again before this time, so that a call costs no system call.
  std::chrono::steady_clock::time_point next_look_{};
  std::optional<Stamp> seen_;
  grpc::Status status_;
  std::string token_;
};

// The credentials of a connection and of its calls. Thread-safe.
class Credentials {
 public:
  // `tls`: null for clear text; Unix sockets are always clear text.
  Credentials(const std::string& address, const TlsOptions* tls, const TokenOptions& token);

  // For the channel; with clear text if the files of TLS cannot be used, because Authorize then
  // fails before a call is made.
  const std::shared_ptr<grpc::ChannelCredentials>& channel() const { return channel_; }
  // Name to expect in the server's certificate; empty: that of the address.
  const std::string& server_name() const { return server_name_; }

  // Adds the token to a call. If it is not OK, the call must not be started.
  grpc::Status Authorize(grpc::ClientContext* context) const;

 private:
  grpc::Status UseTls(const TlsOptions& tls);
  grpc::Status UseToken(const TokenOptions& options);

  std::shared_ptr<grpc::ChannelCredentials> channel_;
  std::string server_name_;
  std::string token_;
  std::unique_ptr<TokenFile> token_file_;
  grpc::Status unusable_;  // why no call can be made
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CREDENTIALS_H_
