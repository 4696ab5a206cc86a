#include "client/backprop/credentials.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "client/backprop/proxy.h"
#include "client/backprop/text.h"

namespace backprop {
namespace {

constexpr std::streamoff kMaxFileBytes = std::streamoff{1} << 20;
constexpr size_t kMaxTokenBytes = 8192;
constexpr auto kLookPeriod = std::chrono::seconds(1);

grpc::Status Unusable(const std::string& message) {
  return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, message);
}

// Sets `text` to the content of a file. Returns "", or why it cannot be read.
std::string ReadWhole(const std::string& path, std::string* text) {
  struct stat about {};
  if (stat(path.c_str(), &about) != 0) return std::strerror(errno);
  if (!S_ISREG(about.st_mode)) return "is not a regular file";
  if (about.st_size > kMaxFileBytes) return "has more than 1 MiB";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file.is_open()) return std::strerror(errno);
  *text = bytes.str();
  return text->empty() ? "is empty" : "";
}

// Returns "", or what is wrong with the token. The text does not contain it.
std::string CheckToken(const std::string& token) {
  if (token.empty()) return "holds no token";
  if (token.size() > kMaxTokenBytes) return "the token has more than 8192 bytes";
  const bool visible =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  return visible ? "" : "the token has white space, or characters other than ASCII";
}

bool IsUnixSocket(const std::string& address) {
  return address.rfind("unix:", 0) == 0 || address.rfind("unix-abstract:", 0) == 0;
}

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
Bio BioOf(const std::string& text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free};
}

using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
X509Ptr FirstCertificate(const std::string& pem) {
  X509Ptr certificate(PEM_read_bio_X509(BioOf(pem).get(), nullptr, nullptr, nullptr), &X509_free);
  ERR_clear_error();
  return certificate;
}

int RefusePassphrase(char*, int, int, void*) { return -1; }

// gRPC reports a wrong key or certificate as a channel that cannot connect, without a reason.
std::string CheckPair(const TlsOptions& tls, const std::string& chain, const std::string& key) {
  const X509Ptr certificate = FirstCertificate(chain);
  if (certificate == nullptr) return tls.certificate_file + ": holds no certificate in PEM";
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> private_key(
      PEM_read_bio_PrivateKey(BioOf(key).get(), nullptr, RefusePassphrase, nullptr),
      &EVP_PKEY_free);
  const bool fits =
      private_key != nullptr && X509_check_private_key(certificate.get(), private_key.get()) == 1;
  ERR_clear_error();
  if (private_key == nullptr) {
    return tls.key_file + ": holds no private key in PEM, or one that is encrypted";
  }
  return fits ? ""
              : tls.key_file + ": is not the key of the certificate in " + tls.certificate_file;
}

}  // namespace

grpc::Status TokenFile::Get(std::string* token) {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto now = std::chrono::steady_clock::now();
  if (now >= next_look_) {
    next_look_ = now + kLookPeriod;
    struct stat about {};
    std::optional<Stamp> stamp;
    if (stat(path_.c_str(), &about) == 0) {
      stamp = Stamp{about.st_ino, about.st_size,
                    int64_t{about.st_mtim.tv_sec} * 1'000'000'000 + about.st_mtim.tv_nsec};
    }
    if (!stamp.has_value() || stamp != seen_) {
      seen_ = stamp;
      std::string text;
      std::string wrong = ReadWhole(path_, &text);
      token_ = Trimmed(text);
      if (wrong.empty()) wrong = CheckToken(token_);
      status_ = wrong.empty() ? grpc::Status::OK
                              : grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                                             "the token file " + path_ + ": " + wrong);
    }
  }
  if (status_.ok()) *token = token_;
  return status_;
}

Credentials::Credentials(const std::string& address, const TlsOptions* tls,
                         const TokenOptions& token)
    : channel_(grpc::InsecureChannelCredentials()) {
  const bool encrypted = tls != nullptr && !IsUnixSocket(address);
  if (encrypted) unusable_ = UseTls(*tls);
  if (unusable_.ok()) unusable_ = UseToken(token);
  const bool has_token = !token_.empty() || token_file_ != nullptr;
  if (unusable_.ok() && has_token && !encrypted && !token.allow_clear_text &&
      !IsThisMachine(address)) {
    unusable_ = Unusable("the token is not sent to " + address +
                         " in clear text; use TLS, or allow clear text explicitly");
  }
}

grpc::Status Credentials::UseTls(const TlsOptions& tls) {
  grpc::SslCredentialsOptions options;
  const auto read = [](const std::string& path, std::string* text) {
    if (path.empty()) return std::string();
    const std::string wrong = ReadWhole(path, text);
    return wrong.empty() ? wrong : path + ": " + wrong;
  };
  std::string wrong;
  options.pem_root_certs = tls.ca_pem;
  if (tls.ca_pem.empty()) wrong = read(tls.ca_file, &options.pem_root_certs);
  if (wrong.empty() && !options.pem_root_certs.empty() &&
      FirstCertificate(options.pem_root_certs) == nullptr) {
    wrong = (tls.ca_pem.empty() ? tls.ca_file : "ca_pem") + ": holds no certificate in PEM";
  }
  if (wrong.empty() && tls.certificate_file.empty() != tls.key_file.empty()) {
    wrong = "a client certificate and its key must be given together";
  }
  if (wrong.empty()) wrong = read(tls.certificate_file, &options.pem_cert_chain);
  if (wrong.empty()) wrong = read(tls.key_file, &options.pem_private_key);
  if (wrong.empty() && !tls.key_file.empty()) {
    wrong = CheckPair(tls, options.pem_cert_chain, options.pem_private_key);
  }
  if (!wrong.empty()) return Unusable("TLS: " + wrong);
  channel_ = grpc::SslCredentials(options);
  server_name_ = tls.server_name;
  return grpc::Status::OK;
}

grpc::Status Credentials::UseToken(const TokenOptions& options) {
  if (!options.token.empty() && !options.file.empty()) {
    return Unusable("a token and a token file cannot both be given");
  }
  if (!options.file.empty()) token_file_ = std::make_unique<TokenFile>(options.file);
  std::string token = options.token;
  if (token.empty() && options.file.empty() && options.use_environment) {
    const char* value = std::getenv("BACKPROP_TOKEN");
    if (value != nullptr) token = value;
  }
  if (token.empty()) return grpc::Status::OK;
  if (const std::string wrong = CheckToken(token); !wrong.empty()) return Unusable(wrong);
  token_ = std::move(token);
  return grpc::Status::OK;
}

grpc::Status Credentials::Authorize(grpc::ClientContext* context) const {
  if (!unusable_.ok()) return unusable_;
  std::string token = token_;
  if (token_file_ != nullptr) {
    grpc::Status status = token_file_->Get(&token);
    if (!status.ok()) return status;
  }
  if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
  return grpc::Status::OK;
}

}  // namespace backprop
