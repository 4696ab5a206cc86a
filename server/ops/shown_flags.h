// The flags of the server as operators may see them: without secrets.
#ifndef BACKPROP_SERVER_OPS_SHOWN_FLAGS_H_
#define BACKPROP_SERVER_OPS_SHOWN_FLAGS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/rpc/introspection.h"

namespace CLI {
class App;
}

namespace backprop::ops {

// What is shown instead of a secret.
inline constexpr char kHiddenValue[] = "(hidden)";

// Returns `value`, or kHiddenValue if it may be a secret:
// - the name of the flag contains token, password, passphrase, secret or credential;
// - the value contains bpt_, with which tokens begin;
// - the value contains a URL with a user: "://", and an @ before the next slash.
// Flags that name a file with a secret (--auth-file, --tls-key) are shown, because their value is a
// path. Bytes that are not UTF-8 are replaced.
std::string ShownValue(absl::string_view flag, absl::string_view value);

// The flags of a parsed command line by name, except those that print something and exit. Values of
// flags that were not given are their defaults.
std::vector<rpc::ShownFlag> ShownFlags(const CLI::App& app);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_SHOWN_FLAGS_H_
