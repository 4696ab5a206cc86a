#include "server/rpc/tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace backprop::rpc {
namespace {

constexpr absl::Duration kBrokenReportPeriod = absl::Hours(1);
constexpr absl::Duration kExpiryReportPeriod = absl::Hours(24);

grpc_ssl_client_certificate_request_type RequestType(ClientAuth client_auth) {
  switch (client_auth) {
    case ClientAuth::kNone:
      return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    case ClientAuth::kOptional:
      return GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
    case ClientAuth::kRequire:
      return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
}

std::string Describe(const CertificateLabel& label) {
  return absl::StrCat(label.flag, " ", label.file, ": ", label.subject);
}

std::string Date(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M UTC", time, absl::UTCTimeZone());
}

bool SameContent(const Certificates& a, const Certificates& b) {
  return a.chain == b.chain && a.key == b.key && a.client_ca == b.client_ca;
}

}  // namespace

// What gRPC calls before each handshake of one listener.
struct Tls::Fetcher {
  Tls* tls = nullptr;
  std::shared_ptr<const Certificates> handed_over;  // used by the listener's thread only

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* fetcher, grpc_ssl_server_certificate_config** config) {
    auto* const self = static_cast<Fetcher*>(fetcher);
    auto latest = self->tls->Latest();
    if (latest == self->handed_over) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {latest->key.c_str(), latest->chain.c_str()};
    // gRPC needs an authority even if it asks no client for a certificate, and then does not use
    // it.
    const std::string& authority = latest->client_ca.empty() ? latest->chain : latest->client_ca;
    *config = grpc_ssl_server_certificate_config_create(authority.c_str(), &pair, 1);
    self->handed_over = std::move(latest);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }
};

// gRPC's C++ interface has no credentials that reload and keep the old certificates when the new
// ones are wrong: its FileWatcherCertificateProvider takes whatever the files hold. The C interface
// has them.
class Tls::Credentials final : public grpc::ServerCredentials {
 public:
  explicit Credentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {
    GPR_ASSERT(false && "not supported");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

absl::StatusOr<std::unique_ptr<Tls>> Tls::Open(TlsFiles files) {
  Stamps seen = StampsOf(files);
  auto certificates = ReadCertificates(files);
  if (!certificates.ok()) return certificates.status();
  return std::unique_ptr<Tls>(new Tls(std::move(files), std::move(seen), *std::move(certificates)));
}

Tls::Tls(TlsFiles files, Stamps seen, Certificates certificates)
    : files_(std::move(files)),
      seen_(std::move(seen)),
      latest_(std::make_shared<const Certificates>(std::move(certificates))) {}

Tls::~Tls() = default;

std::shared_ptr<const Certificates> Tls::Latest() {
  const base::MutexLock lock(&mu_);
  return latest_;
}

std::shared_ptr<grpc::ServerCredentials> Tls::MakeCredentials() {
  const base::MutexLock lock(&mu_);
  Fetcher* const fetcher = fetchers_.emplace_back(std::make_unique<Fetcher>()).get();
  fetcher->tls = this;
  return std::make_shared<Credentials>(grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(
          RequestType(files_.client_auth), Fetcher::Fetch, fetcher)));
}

Tls::Stamp Tls::StampOf(const std::string& path) {
  struct stat status = {};
  if (path.empty() || stat(path.c_str(), &status) != 0) return {};
  const auto nanoseconds = [](const timespec& time) {
    return absl::ToUnixNanos(absl::TimeFromTimespec(time));
  };
  return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

Tls::Stamps Tls::StampsOf(const TlsFiles& files) {
  return {StampOf(files.certificate), StampOf(files.key), StampOf(files.client_ca)};
}

std::vector<TlsNotice> Tls::Check(absl::Time now) {
  const base::MutexLock lock(&check_mu_);
  std::vector<TlsNotice> notices;
  Stamps now_seen = StampsOf(files_);
  if (now_seen != seen_) {
    seen_ = std::move(now_seen);
    may_be_half_written_ = true;
    Reload(now, &notices);
  } else if (may_be_half_written_) {
    may_be_half_written_ = false;
    Reload(now, &notices);
  } else if (!broken_.ok()) {
    Broken(now, broken_, &notices);
  }
  if (!std::exchange(reported_, true)) {
    next_expiry_report_ = absl::InfinitePast();
    const auto latest = Latest();
    for (const CertificateLabel& label : latest->labels) {
      notices.push_back({TlsNotice::Level::kInfo,
                         absl::StrCat(Describe(label), ", expires ", Date(label.not_after))});
    }
    for (const std::string& warning : latest->warnings) {
      notices.push_back({TlsNotice::Level::kWarning, warning});
    }
  }
  ReportExpiry(now, &notices);
  return notices;
}

// Takes the files if they can be used.
void Tls::Reload(absl::Time now, std::vector<TlsNotice>* notices) {
  auto read = ReadCertificates(files_);
  if (!read.ok()) {
    next_broken_report_ = absl::InfinitePast();
    if (!may_be_half_written_) Broken(now, read.status(), notices);
    return;
  }
  may_be_half_written_ = false;
  const bool was_broken = !std::exchange(broken_, absl::OkStatus()).ok();
  if (SameContent(*read, *Latest())) {
    if (was_broken) {
      notices->push_back({TlsNotice::Level::kInfo, "the TLS files are again those in use"});
    }
    return;
  }
  notices->push_back({TlsNotice::Level::kInfo, "the TLS files changed; new connections use them"});
  reported_ = false;
  const base::MutexLock lock(&mu_);
  latest_ = std::make_shared<const Certificates>(*std::move(read));
}

void Tls::Broken(absl::Time now, const absl::Status& status, std::vector<TlsNotice>* notices) {
  broken_ = status;
  if (now < next_broken_report_) return;
  next_broken_report_ = now + kBrokenReportPeriod;
  notices->push_back(
      {TlsNotice::Level::kError,
       absl::StrCat("the TLS files changed and cannot be used; the previous ones stay in use: ",
                    std::string(status.message()))});
}

void Tls::ReportExpiry(absl::Time now, std::vector<TlsNotice>* notices) {
  if (now < next_expiry_report_) return;
  next_expiry_report_ = now + kExpiryReportPeriod;
  for (const CertificateLabel& label : Latest()->labels) {
    std::string what;
    if (label.not_after <= now) {
      what = "expired on " + Date(label.not_after);
    } else if (label.not_before > now) {
      what = "is not valid before " + Date(label.not_before);
    } else if (label.not_after <= now + kExpiryWarning) {
      what = "expires soon, on " + Date(label.not_after);
    } else {
      continue;
    }
    notices->push_back({TlsNotice::Level::kWarning, Describe(label) + ", " + what});
  }
}

std::shared_ptr<grpc::ChannelCredentials> UnverifiedTls(const TlsFiles& files) {
  using grpc::experimental::IdentityKeyCertPair;
  using grpc::experimental::StaticDataCertificateProvider;
  grpc::experimental::TlsChannelCredentialsOptions options;
  if (const auto own = ReadCertificates(files); own.ok()) {
    options.set_certificate_provider(std::make_shared<StaticDataCertificateProvider>(
        std::vector<IdentityKeyCertPair>{{own->key, own->chain}}));
    options.watch_identity_key_cert_pairs();
  }
  options.set_verify_server_certs(false);
  options.set_check_call_host(false);
  options.set_certificate_verifier(std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace backprop::rpc
