// The auth file: the callers that the server accepts (auth_file.proto).
#ifndef BACKPROP_SERVER_AUTH_AUTH_FILE_H_
#define BACKPROP_SERVER_AUTH_AUTH_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/auth/role.h"
#include "server/auth/token.h"

namespace backprop::auth {

struct Principal {
  std::string name;
  std::string project;
  Role role;
  std::vector<Digest> tokens;  // their hashes
  std::vector<std::string> certificate_uris;
};

// Limits of a project; one that is not set does not exist.
struct Quotas {
  std::optional<int64_t> models;
  std::optional<int64_t> parameters;  // including optimiser state
  std::optional<int64_t> concurrent_runs;
  std::optional<int64_t> requests_per_second;
  std::optional<int64_t> stored_bytes;
  std::optional<int64_t> rows_per_second;
  std::optional<int64_t> bytes_in_flight;  // at least kMinBytesInFlight
};

struct Project {
  std::string name;
  int64_t weight = 1;  // 1 to kMaxWeight
  Quotas quotas;
};

// Invariants: at least one principal; names of principals, names of projects, hashes and URIs are
// unique; every principal has a token or a URI; if there are projects, the project of every
// principal is among them.
struct AuthFile {
  std::vector<Principal> principals;
  std::vector<Project> projects;
};

// Enough for more than 10,000 principals.
inline constexpr size_t kMaxAuthFileBytes = size_t{4} << 20;
inline constexpr size_t kMaxPrincipalNameBytes = 128;
inline constexpr size_t kMaxProjectNameBytes = 63;
inline constexpr size_t kMaxUriBytes = 2048;
inline constexpr int64_t kMaxWeight = 1000;
inline constexpr int64_t kMinBytesInFlight = 1024;

// Parses the contents of the file. INVALID_ARGUMENT with every violation ("principals[3].role: is
// required, …"); no message contains a token or a part of one, even if the file does.
absl::StatusOr<AuthFile> ParseAuthFile(absl::string_view json);

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_AUTH_FILE_H_
