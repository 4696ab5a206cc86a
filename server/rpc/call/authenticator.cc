#include "server/rpc/call/authenticator.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/rpc/call/forwarded_peer.h"

namespace backprop::rpc {
namespace {

constexpr absl::string_view kScheme = "Bearer ";

absl::string_view View(const grpc::string_ref& text) { return {text.data(), text.size()}; }

const char* MessageOf(AuthFailure failure) {
  switch (failure) {
    case AuthFailure::kNoCredentials:
      return "the call has no credentials; send a token in the metadata `authorization: Bearer "
             "bpt_…`, or use a client certificate";
    case AuthFailure::kInvalidToken:
      return "the token is not known; `authorization` must be one value, `Bearer` and a token";
    case AuthFailure::kUnknownCertificate:
      return "no URI in the client's certificate belongs to a principal";
    case AuthFailure::kTwoPrincipals:
      return "the credentials of the call belong to different principals; send those of one";
  }
  return "";
}

// The principal of a call, or why there is none.
struct Found {
  std::optional<size_t> principal;
  AuthFailure failure = AuthFailure::kNoCredentials;
};

Found Find(const auth::Principals& principals, const Credentials& credentials) {
  Found found;
  for (const absl::string_view uri : credentials.certificate_uris) {
    const auto of_uri = principals.WithUri(std::string(uri));
    if (!of_uri.has_value()) continue;
    if (found.principal.value_or(*of_uri) != *of_uri) return {{}, AuthFailure::kTwoPrincipals};
    found.principal = of_uri;
  }
  if (credentials.authorizations == 0) {
    if (!credentials.certificate_uris.empty()) found.failure = AuthFailure::kUnknownCertificate;
    return found;
  }
  absl::string_view token = credentials.authorization;
  // The scheme is case-insensitive (RFC 7235).
  const bool bearer = absl::StartsWithIgnoreCase(token, kScheme);
  if (credentials.authorizations > 1 || !bearer) return {{}, AuthFailure::kInvalidToken};
  token.remove_prefix(kScheme.size());
  const auto of_token = principals.WithToken(token);
  if (!of_token.has_value()) return {{}, AuthFailure::kInvalidToken};
  if (found.principal.value_or(*of_token) != *of_token) return {{}, AuthFailure::kTwoPrincipals};
  return {of_token, {}};
}

// Returns the URIs of the client's certificate. gRPC sets them only if there is one; TLS is
// configured to verify every certificate (server/rpc/tls.h). A connection without TLS has none.
std::vector<grpc::string_ref> CertificateUris(const grpc::AuthContext& context) {
  const auto type = context.FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  const bool tls = type.size() == 1 && (type[0] == GRPC_SSL_TRANSPORT_SECURITY_TYPE ||
                                        type[0] == GRPC_TLS_TRANSPORT_SECURITY_TYPE);
  if (!tls || !context.IsPeerAuthenticated()) return {};
  return context.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME);
}

}  // namespace

const char* ReasonOf(AuthFailure failure) {
  switch (failure) {
    case AuthFailure::kNoCredentials:
      return "NO_CREDENTIALS";
    case AuthFailure::kInvalidToken:
      return "INVALID_TOKEN";
    case AuthFailure::kUnknownCertificate:
      return "UNKNOWN_CERTIFICATE";
    case AuthFailure::kTwoPrincipals:
      return "TWO_PRINCIPALS";
  }
  return "";
}

struct Authenticator::Snapshot {
  explicit Snapshot(auth::AuthFile file) : principals(std::move(file)) {
    for (const auth::Principal& principal : principals.file().principals) {
      callers.push_back(
          std::make_shared<Caller>(principal.name, principal.project, principal.role));
    }
  }

  const auth::Principals principals;
  std::vector<CallerPtr> callers;  // in the order of the file
};

Authenticator::Authenticator(auth::AuthFile file, const base::Clock* clock,
                             std::function<void(const std::string&)> on_failure)
    : on_failure_(std::move(on_failure)),
      failed_attempts_(clock),
      latest_(std::make_shared<const Snapshot>(std::move(file))) {}

Authenticator::~Authenticator() = default;

std::shared_ptr<const Authenticator::Snapshot> Authenticator::Latest() const {
  const base::MutexLock lock(&mu_);
  return latest_;
}

void Authenticator::Replace(auth::AuthFile file) {
  auto snapshot = std::make_shared<const Snapshot>(std::move(file));
  const base::MutexLock lock(&mu_);
  latest_.swap(snapshot);
}

std::shared_ptr<const auth::Principals> Authenticator::principals() const {
  const auto snapshot = Latest();
  return {snapshot, &snapshot->principals};
}

int64_t Authenticator::failures(AuthFailure failure) const {
  return failures_[static_cast<size_t>(failure)].load(std::memory_order_relaxed);
}

absl::StatusOr<CallerPtr> Authenticator::Authenticate(const Credentials& credentials,
                                                      absl::string_view method,
                                                      absl::FunctionRef<std::string()> peer) {
  return Decide(*Latest(), credentials, method, peer);
}

absl::StatusOr<CallerPtr> Authenticator::Decide(const Snapshot& snapshot,
                                                const Credentials& credentials,
                                                absl::string_view method,
                                                absl::FunctionRef<std::string()> peer) {
  const Found found = Find(snapshot.principals, credentials);
  if (found.principal.has_value()) return snapshot.callers[*found.principal];
  return Refuse(found.failure, method, peer());
}

absl::StatusOr<CallerPtr> Authenticator::Authenticate(const grpc::CallbackServerContext& call,
                                                      absl::string_view method) {
  const auto snapshot = Latest();
  Credentials credentials;
  const auto [first, last] = call.client_metadata().equal_range("authorization");
  for (auto value = first; value != last; ++value) {
    ++credentials.authorizations;
    credentials.authorization = View(value->second);
  }
  const auto forwarded = ForwardedPeerOf(call);
  std::shared_ptr<const grpc::AuthContext> context;  // owns the URIs
  if (forwarded.has_value()) {
    credentials.certificate_uris.assign(forwarded->certificate_uris.begin(),
                                        forwarded->certificate_uris.end());
  } else if (snapshot->principals.use_certificates()) {
    context = call.auth_context();
  }
  if (context != nullptr) {
    for (const grpc::string_ref& uri : CertificateUris(*context)) {
      credentials.certificate_uris.push_back(View(uri));
    }
  }
  return Decide(*snapshot, credentials, method, [&] { return PeerAddressOf(call, forwarded); });
}

absl::Status Authenticator::Refuse(AuthFailure failure, absl::string_view method,
                                   const std::string& peer) {
  failures_[static_cast<size_t>(failure)].fetch_add(1, std::memory_order_relaxed);
  const std::string address = auth::PeerAddress(peer);
  const absl::Duration wait = failed_attempts_.Count(address);
  if (wait > absl::ZeroDuration()) {
    limited_.fetch_add(1, std::memory_order_relaxed);
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("too many failed attempts from this address; the last one: ",
                     MessageOf(failure)),
        {"TOO_MANY_FAILED_ATTEMPTS", {{"last", ReasonOf(failure)}}, wait});
  }
  if (on_failure_) on_failure_(absl::StrCat(address, ": ", method, ": ", ReasonOf(failure)));
  return base::ReasonError(absl::StatusCode::kUnauthenticated, MessageOf(failure),
                           {ReasonOf(failure), {}});
}

}  // namespace backprop::rpc
