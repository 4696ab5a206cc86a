// Finds the caller of a call.
#ifndef BACKPROP_SERVER_RPC_CALL_AUTHENTICATOR_H_
#define BACKPROP_SERVER_RPC_CALL_AUTHENTICATOR_H_

#include <grpcpp/server_context.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/auth/auth_file.h"
#include "server/auth/failed_attempts.h"
#include "server/auth/principals.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/rpc/call/caller.h"

namespace backprop::rpc {

// What a call shows of its caller. The texts must outlive it.
struct Credentials {
  int authorizations = 0;           // values of the metadata `authorization`
  absl::string_view authorization;  // the last one: "Bearer bpt_…"
  // URIs in the client's certificate, which TLS has verified.
  std::vector<absl::string_view> certificate_uris;
};

// Why a caller is not known.
enum class AuthFailure {
  kNoCredentials,
  kInvalidToken,
  kUnknownCertificate,
  kTwoPrincipals,  // the token and the certificate, or two URIs of it, are of different principals
};
inline constexpr std::array<AuthFailure, 4> kAuthFailures = {
    AuthFailure::kNoCredentials, AuthFailure::kInvalidToken, AuthFailure::kUnknownCertificate,
    AuthFailure::kTwoPrincipals};
const char* ReasonOf(AuthFailure failure);  // "NO_CREDENTIALS"

// Knows the callers of the auth file. A call keeps its caller to its end, also when the file is
// replaced meanwhile. Thread-safe.
class Authenticator {
 public:
  // `clock` must outlive this object. `on_failure` gets a line for the log for each failed attempt
  // within the limit, on the thread of the call; it never contains a part of a token.
  Authenticator(auth::AuthFile file, const base::Clock* clock,
                std::function<void(const std::string&)> on_failure);
  ~Authenticator();

  // Returns the caller. UNAUTHENTICATED with the reason of an AuthFailure; RESOURCE_EXHAUSTED
  // (TOO_MANY_FAILED_ATTEMPTS) instead if the peer has failed too often (failed_attempts.h). Known
  // callers are never refused: tokens cannot be guessed (token.h), and a peer must not be able to
  // lock out others that share its address, such as those of a proxy. `peer` is called only after
  // a failure. `method` is for the log.
  absl::StatusOr<CallerPtr> Authenticate(const Credentials& credentials, absl::string_view method,
                                         absl::FunctionRef<std::string()> peer);
  // The same for a call of gRPC.
  absl::StatusOr<CallerPtr> Authenticate(const grpc::CallbackServerContext& call,
                                         absl::string_view method);

  // From now on calls are authenticated by `file`.
  void Replace(auth::AuthFile file);
  // The latest file.
  std::shared_ptr<const auth::Principals> principals() const;

  // Failed attempts since the start, also those above the limit.
  int64_t failures(AuthFailure failure) const;
  // Those of them that were above the limit.
  int64_t limited() const { return limited_.load(std::memory_order_relaxed); }

 private:
  struct Snapshot;

  std::shared_ptr<const Snapshot> Latest() const;
  absl::StatusOr<CallerPtr> Decide(const Snapshot& snapshot, const Credentials& credentials,
                                   absl::string_view method, absl::FunctionRef<std::string()> peer);
  absl::Status Refuse(AuthFailure failure, absl::string_view method, const std::string& peer);

  const std::function<void(const std::string&)> on_failure_;
  auth::FailedAttempts failed_attempts_;
  std::array<std::atomic<int64_t>, kAuthFailures.size()> failures_ = {};
  std::atomic<int64_t> limited_{0};
  mutable base::Mutex mu_;
  std::shared_ptr<const Snapshot> latest_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_AUTHENTICATOR_H_
