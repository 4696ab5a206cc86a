// Bearer tokens: their form and their hash.
#ifndef BACKPROP_SERVER_AUTH_TOKEN_H_
#define BACKPROP_SERVER_AUTH_TOKEN_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace backprop::auth {

using Digest = std::array<uint8_t, 32>;  // a SHA-256

// A token is "bpt_" and 49 characters of base64url: 32 random bytes in 43 characters, then 6
// characters of checksum. `backprop token create` makes them. The form rules out that someone uses
// a short password as a token, so guessing is hopeless at any rate of attempts.
inline constexpr absl::string_view kTokenPrefix = "bpt_";
inline constexpr size_t kTokenBytes = 53;

// Whether `text` has the form of a token. The checksum is not checked: it is for scanners that
// search for tokens in places where they do not belong.
bool HasTokenForm(absl::string_view text);

// Thread-safe.
Digest Sha256(absl::string_view text);

// Compares all bytes, in a time that does not depend on them.
bool SameDigest(const Digest& one, const Digest& other);

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_TOKEN_H_
