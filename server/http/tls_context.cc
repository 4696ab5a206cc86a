#include "server/http/tls_context.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <string>
#include <utility>

namespace backprop::http {
namespace {

struct Deleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Deleter>;

Owned<BIO> Reader(const std::string& pem) {
  return Owned<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

bool UsePair(const rpc::Certificates& certificates, SSL_CTX* context) {
  const Owned<BIO> chain = Reader(certificates.chain);
  const Owned<X509> own(PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr));
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) return false;
  for (;;) {
    const Owned<X509> next(PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr));
    if (next == nullptr) break;
    if (SSL_CTX_add1_chain_cert(context, next.get()) != 1) return false;
  }
  const Owned<BIO> key_pem = Reader(certificates.key);
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(key_pem.get(), nullptr, nullptr, nullptr));
  return key != nullptr && SSL_CTX_use_PrivateKey(context, key.get()) == 1;
}

bool AskForClientCertificates(const rpc::Certificates& certificates, rpc::ClientAuth client_auth,
                              SSL_CTX* context) {
  if (client_auth == rpc::ClientAuth::kNone) return true;
  const Owned<BIO> pem = Reader(certificates.client_ca);
  X509_STORE* const authorities = SSL_CTX_get_cert_store(context);
  for (;;) {
    const Owned<X509> authority(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr));
    if (authority == nullptr) break;
    if (X509_STORE_add_cert(authorities, authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return false;
    }
  }
  const bool required = client_auth == rpc::ClientAuth::kRequire;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  return true;
}

// Clients that name protocols must name this one; others are taken to speak it.
int SelectProtocol(SSL* /*ssl*/, const unsigned char** selected, unsigned char* selected_size,
                   const unsigned char* offered, unsigned offered_size, void* /*unused*/) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, selected_size, kOurs, sizeof(kOurs) - 1, offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *selected = found;
  return SSL_TLSEXT_ERR_OK;
}

// Null if OpenSSL does not accept the certificates.
std::shared_ptr<SSL_CTX> MakeContext(const rpc::Certificates& certificates,
                                     rpc::ClientAuth client_auth) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (context == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Every connection shows its certificate again, so that a changed authority applies to it.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context.get(), SelectProtocol, nullptr);
  const bool usable = UsePair(certificates, context.get()) &&
                      AskForClientCertificates(certificates, client_auth, context.get());
  ERR_clear_error();
  return usable ? context : nullptr;
}

}  // namespace

std::shared_ptr<SSL_CTX> TlsContext::Latest() {
  auto latest = tls_->Latest();
  const base::MutexLock lock(&mu_);
  if (latest != certificates_) {
    auto context = MakeContext(*latest, tls_->client_auth());
    if (context != nullptr) context_ = std::move(context);
    certificates_ = std::move(latest);
  }
  return context_;
}

}  // namespace backprop::http
