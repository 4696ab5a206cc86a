#include "server/auth/principals.h"

#include <cstring>
#include <utility>

namespace backprop::auth {
namespace {

uint64_t PrefixOf(const Digest& digest) {
  uint64_t prefix = 0;
  std::memcpy(&prefix, digest.data(), sizeof(prefix));
  return prefix;
}

}  // namespace

Principals::Principals(AuthFile file) : file_(std::move(file)) {
  for (size_t i = 0; i < file_.principals.size(); ++i) {
    for (const Digest& digest : file_.principals[i].tokens) {
      by_digest_.emplace(PrefixOf(digest), Entry{digest, i});
    }
    for (const std::string& uri : file_.principals[i].certificate_uris) by_uri_.emplace(uri, i);
  }
}

std::optional<size_t> Principals::WithToken(absl::string_view token) const {
  if (!HasTokenForm(token)) return std::nullopt;
  const Digest digest = Sha256(token);
  const auto [first, last] = by_digest_.equal_range(PrefixOf(digest));
  for (auto found = first; found != last; ++found) {
    if (SameDigest(found->second.digest, digest)) return found->second.principal;
  }
  return std::nullopt;
}

std::optional<size_t> Principals::WithUri(const std::string& uri) const {
  const auto found = by_uri_.find(uri);
  if (found == by_uri_.end()) return std::nullopt;
  return found->second;
}

}  // namespace backprop::auth
