#include "server/auth/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace backprop::auth {

bool HasTokenForm(absl::string_view text) {
  return text.size() == kTokenBytes && absl::StartsWith(text, kTokenPrefix) &&
         std::all_of(text.begin() + kTokenPrefix.size(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
         });
}

Digest Sha256(absl::string_view text) {
  // Fetched once, because a fetch takes longer than the hash.
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Digest digest;
  // Fails only if OpenSSL is broken or out of memory. Then no caller can be identified.
  if (EVP_Digest(text.data(), text.size(), digest.data(), nullptr, sha256, nullptr) != 1) {
    std::abort();
  }
  return digest;
}

bool SameDigest(const Digest& one, const Digest& other) {
  return CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

}  // namespace backprop::auth
