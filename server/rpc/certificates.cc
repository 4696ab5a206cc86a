#include "server/rpc/certificates.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/sockets.h"

namespace backprop::rpc {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

// Deletes objects of OpenSSL.
struct Deleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
template <class T>
using Owned = std::unique_ptr<T, Deleter>;

// A file of a flag, for messages.
struct NamedFile {
  const char* flag;
  const std::string& path;

  std::string Message(const std::string& what) const {
    return absl::StrCat(flag, " ", path, ": ", what);
  }
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(Message(what));
  }
};

// The reason of OpenSSL's latest error. Clears the queue of errors.
std::string OpenSslReason() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown error";
}

// `mode`, if not null, receives the permissions.
absl::StatusOr<std::string> ReadFile(const NamedFile& file, mode_t* mode) {
  const auto failed = [&] {
    return file.Error(absl::StrCat("cannot be read: ", std::strerror(errno)));
  };
  // O_NONBLOCK: opening a pipe would otherwise wait for a writer.
  const Descriptor fd(open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!fd.open() || fstat(fd.get(), &status) != 0) return failed();
  if (!S_ISREG(status.st_mode)) return file.Error("is not a regular file");
  if (mode != nullptr) *mode = status.st_mode;
  std::string bytes;
  for (;;) {
    char piece[4096];
    const ssize_t got = read(fd.get(), piece, sizeof(piece));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed();
    if (got == 0) break;
    bytes.append(piece, static_cast<size_t>(got));
    if (bytes.size() > kMaxFileBytes) {
      return file.Error(absl::StrCat("has more than ", kMaxFileBytes, " bytes"));
    }
  }
  if (bytes.empty()) return file.Error("is empty");
  // gRPC takes C strings and would ignore the rest.
  if (bytes.find('\0') != std::string::npos) return file.Error("holds a NUL byte; it is not PEM");
  return bytes;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm parts = {};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfiniteFuture();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string SubjectOf(X509* certificate) {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0,
                     XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : "no subject";
}

using Chain = std::vector<Owned<X509>>;

// Parses all certificates of a file, in order; there is at least one.
absl::StatusOr<Chain> ParseCertificates(const NamedFile& file, const std::string& pem) {
  const Owned<BIO> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  Chain chain;
  while (X509* const next = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)) {
    chain.emplace_back(next);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = OpenSslReason();
  if (!at_end) {
    return file.Error(
        absl::StrCat("certificate ", chain.size() + 1, " cannot be parsed: ", reason));
  }
  if (chain.empty()) {
    return file.Error("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)");
  }
  return chain;
}

// Called by OpenSSL for an encrypted key: sets the bool that `asked` points to, and gives up.
int RefusePassphrase(char* /*buffer*/, int /*size*/, int /*for_writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::StatusOr<Owned<EVP_PKEY>> ParseKey(const NamedFile& file, const std::string& pem) {
  const Owned<BIO> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  bool asked = false;
  Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(in.get(), nullptr, RefusePassphrase, &asked));
  if (key != nullptr) return key;
  const std::string reason = OpenSslReason();
  if (asked) {
    return file.Error(
        "is encrypted, and the server asks for no passphrase; decrypt it with: openssl pkey -in "
        "FILE -out NEW");
  }
  return file.Error(
      absl::StrCat("holds no private key in PEM (-----BEGIN PRIVATE KEY-----): ", reason));
}

// Tries everything that gRPC will do with the certificate and the key.
absl::Status CheckUsable(const NamedFile& certificate_file, const NamedFile& key_file,
                         const Chain& chain, EVP_PKEY* key) {
  if (X509_check_private_key(chain[0].get(), key) != 1) {
    ERR_clear_error();
    return key_file.Error(absl::StrCat("is not the key of the first certificate in ",
                                       certificate_file.flag, " ", certificate_file.path, " (",
                                       SubjectOf(chain[0].get()), ")"));
  }
  const Owned<SSL_CTX> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(OpenSslReason());
  if (SSL_CTX_use_certificate(context.get(), chain[0].get()) != 1) {
    return certificate_file.Error(absl::StrCat("cannot be used: ", OpenSslReason()));
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) {
      return certificate_file.Error(
          absl::StrCat("certificate ", i + 1, " cannot be used: ", OpenSslReason()));
    }
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key) != 1) {
    return key_file.Error(absl::StrCat("cannot be used: ", OpenSslReason()));
  }
  return absl::OkStatus();
}

void AddLabels(const NamedFile& file, const Chain& chain, Certificates* read) {
  for (const Owned<X509>& certificate : chain) {
    read->labels.push_back({file.flag, file.path, SubjectOf(certificate.get()),
                            TimeOf(X509_get0_notBefore(certificate.get())),
                            TimeOf(X509_get0_notAfter(certificate.get()))});
  }
}

bool HasSubjectAlternativeName(X509* certificate) {
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  return names != nullptr;
}

absl::Status ReadPair(const TlsFiles& files, Certificates* read) {
  const NamedFile certificate_file{"--tls-cert", files.certificate};
  const NamedFile key_file{"--tls-key", files.key};
  auto chain_pem = ReadFile(certificate_file, nullptr);
  if (!chain_pem.ok()) return chain_pem.status();
  const auto chain = ParseCertificates(certificate_file, *chain_pem);
  if (!chain.ok()) return chain.status();
  mode_t mode = 0;
  auto key_pem = ReadFile(key_file, &mode);
  if (!key_pem.ok()) return key_pem.status();
  const auto key = ParseKey(key_file, *key_pem);
  if (!key.ok()) return key.status();
  absl::Status usable = CheckUsable(certificate_file, key_file, *chain, key->get());
  if (!usable.ok()) return usable;
  AddLabels(certificate_file, *chain, read);
  if ((mode & S_IRWXO) != 0) {
    read->warnings.push_back(
        key_file.Message("every user of this machine can access the private key; chmod 600 it"));
  }
  if (!HasSubjectAlternativeName((*chain)[0].get())) {
    read->warnings.push_back(certificate_file.Message(
        "the certificate has no subject alternative name; many clients refuse it"));
  }
  read->chain = *std::move(chain_pem);
  read->key = *std::move(key_pem);
  return absl::OkStatus();
}

absl::Status ReadClientCa(const TlsFiles& files, Certificates* read) {
  const NamedFile file{"--tls-client-ca", files.client_ca};
  auto pem = ReadFile(file, nullptr);
  if (!pem.ok()) return pem.status();
  const auto chain = ParseCertificates(file, *pem);
  if (!chain.ok()) return chain.status();
  for (const Owned<X509>& certificate : *chain) {
    if (X509_check_ca(certificate.get()) != 0) continue;
    read->warnings.push_back(file.Message(absl::StrCat(
        SubjectOf(certificate.get()),
        " is not the certificate of an authority; it admits no certificate but itself")));
  }
  AddLabels(file, *chain, read);
  read->client_ca = *std::move(pem);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Certificates> ReadCertificates(const TlsFiles& files) {
  ERR_clear_error();
  Certificates read;
  absl::Status status = ReadPair(files, &read);
  if (status.ok() && !files.client_ca.empty()) status = ReadClientCa(files, &read);
  if (!status.ok()) return status;
  return read;
}

}  // namespace backprop::rpc
