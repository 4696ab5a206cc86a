// Finds the principal of a credential.
#ifndef BACKPROP_SERVER_AUTH_PRINCIPALS_H_
#define BACKPROP_SERVER_AUTH_PRINCIPALS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "absl/strings/string_view.h"
#include "server/auth/auth_file.h"
#include "server/auth/token.h"

namespace backprop::auth {

// The contents of an auth file with an index. Immutable, so thread-safe.
class Principals {
 public:
  explicit Principals(AuthFile file);
  Principals(const Principals&) = delete;
  Principals& operator=(const Principals&) = delete;

  const AuthFile& file() const { return file_; }
  // Whether any principal has a certificate URI.
  bool use_certificates() const { return !by_uri_.empty(); }

  // These return an index into file().principals, or none.
  //
  // The time of WithToken depends on the first 8 bytes of the hash of `token`. What a caller learns
  // from this is about hashes. It does not help to find a token, which is 32 random bytes: to
  // choose the next guess by it, the caller would have to invert SHA-256. The whole hash is then
  // compared in constant time.
  std::optional<size_t> WithToken(absl::string_view token) const;
  std::optional<size_t> WithUri(const std::string& uri) const;

 private:
  struct Entry {
    Digest digest;
    size_t principal;
  };

  const AuthFile file_;
  std::unordered_multimap<uint64_t, Entry> by_digest_;  // by the first 8 bytes
  std::unordered_map<std::string, size_t> by_uri_;
};

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_PRINCIPALS_H_
