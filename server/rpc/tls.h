// TLS of a server: gRPC's credentials, with certificates that are read again when their files
// change.
#ifndef BACKPROP_SERVER_RPC_TLS_H_
#define BACKPROP_SERVER_RPC_TLS_H_

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/rpc/certificates.h"

namespace backprop::rpc {

// A line for the log.
struct TlsNotice {
  enum class Level { kInfo, kWarning, kError };
  Level level = Level::kInfo;
  std::string text;
};

// Certificates that expire within this time are reported.
inline constexpr absl::Duration kExpiryWarning = absl::Hours(24 * 14);

// Keeps the latest files that ReadCertificates accepted. New connections use them; connections that
// exist keep what they agreed on. A file that becomes missing, half-written or wrong changes
// nothing, and is reported. Thread-safe. Must outlive every server that uses its credentials.
//
//     auto tls = Tls::Open(files);
//     builder.AddExternalConnectionAcceptor(…, (*tls)->MakeCredentials());
//     for (;;) { Log((*tls)->Check(absl::Now())); absl::SleepFor(absl::Seconds(1)); }
class Tls {
 public:
  // Errors: those of ReadCertificates.
  static absl::StatusOr<std::unique_ptr<Tls>> Open(TlsFiles files);
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // Reads the files again if one of them has changed since the last call. Returns what the operator
  // should know: at the first call the certificates with their expiry dates; later a reload; once
  // an hour files that cannot be used; once a day certificates that expire within kExpiryWarning.
  // Files that cannot be used are reported at the second call that finds them so, because they may
  // be in the middle of being written. Call it about once a second.
  std::vector<TlsNotice> Check(absl::Time now);

  // Credentials for one listener: TLS 1.2 or later, protocol h2. Every listener needs its own.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials();

  // For listeners of other protocols: the certificates in use, and whether clients are asked for
  // theirs. Two results are the same object unless the files have changed.
  std::shared_ptr<const Certificates> Latest();
  ClientAuth client_auth() const { return files_.client_auth; }

 private:
  class Credentials;
  struct Fetcher;
  // What identifies the content of a file; all zero if there is no file.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = 0;
    int64_t modified_ns = 0;
    int64_t changed_ns = 0;
    bool operator==(const Stamp& other) const = default;
  };
  using Stamps = std::vector<Stamp>;

  Tls(TlsFiles files, Stamps seen, Certificates certificates);

  static Stamp StampOf(const std::string& path);
  static Stamps StampsOf(const TlsFiles& files);
  void Reload(absl::Time now, std::vector<TlsNotice>* notices)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(check_mu_);
  void Broken(absl::Time now, const absl::Status& status, std::vector<TlsNotice>* notices)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(check_mu_);
  void ReportExpiry(absl::Time now, std::vector<TlsNotice>* notices)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(check_mu_);

  const TlsFiles files_;

  base::Mutex check_mu_;  // held by Check
  Stamps seen_ ABSL_GUARDED_BY(check_mu_);
  bool reported_ ABSL_GUARDED_BY(check_mu_) = false;  // the certificates in use
  // Why the files cannot be used; OK if they can.
  absl::Status broken_ ABSL_GUARDED_BY(check_mu_);
  bool may_be_half_written_ ABSL_GUARDED_BY(check_mu_) = false;
  absl::Time next_broken_report_ ABSL_GUARDED_BY(check_mu_) = absl::InfinitePast();
  absl::Time next_expiry_report_ ABSL_GUARDED_BY(check_mu_) = absl::InfinitePast();

  base::Mutex mu_;  // held for a moment; a handshake may wait for it
  std::shared_ptr<const Certificates> latest_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Fetcher>> fetchers_ ABSL_GUARDED_BY(mu_);
};

// Credentials for a client that asks a server on the same machine for nothing but its health: they
// encrypt, do not verify the server, and present the server's own certificate if `files` can be
// read.
std::shared_ptr<grpc::ChannelCredentials> UnverifiedTls(const TlsFiles& files);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_TLS_H_
