// Real certificates for tests, made by OpenSSL. Keys are of the curve P-256.
#ifndef BACKPROP_TESTS_RPC_TEST_CERTIFICATES_H_
#define BACKPROP_TESTS_RPC_TEST_CERTIFICATES_H_

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace backprop::rpc {

inline void Expect(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("OpenSSL: ") + what);
}

inline std::string PemOf(X509* certificate) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
  Expect(PEM_write_bio_X509(out.get(), certificate) == 1, "certificate");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

// `passphrase` encrypts the key unless it is empty.
inline std::string PemOf(EVP_PKEY* key, const std::string& passphrase = "") {
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
  const bool encrypt = !passphrase.empty();
  Expect(PEM_write_bio_PKCS8PrivateKey(out.get(), key, encrypt ? EVP_aes_128_cbc() : nullptr,
                                       encrypt ? passphrase.c_str() : nullptr,
                                       static_cast<int>(passphrase.size()), nullptr, nullptr) == 1,
         "key");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

struct Issue {
  std::string common_name = "server";
  std::string names = "DNS:localhost,IP:127.0.0.1";  // subject alternative names; may be empty
  absl::Time not_before = absl::Now() - absl::Hours(1);
  absl::Time not_after = absl::Now() + absl::Hours(24 * 90);
  bool authority = false;
};

// A certificate with its key.
class TestCertificate {
 public:
  // Signed by `issuer`, or by itself if that is null.
  explicit TestCertificate(const Issue& issue, const TestCertificate* issuer = nullptr)
      : key_(EVP_EC_gen("P-256"), &EVP_PKEY_free), certificate_(X509_new(), &X509_free) {
    static long serial = 0;
    X509* const made = certificate_.get();
    X509_set_version(made, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial);
    X509_time_adj_ex(X509_getm_notBefore(made), 0, SecondsFromNow(issue.not_before), nullptr);
    X509_time_adj_ex(X509_getm_notAfter(made), 0, SecondsFromNow(issue.not_after), nullptr);
    X509_set_pubkey(made, key_.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(issue.common_name.c_str()),
                               -1, -1, 0);
    const TestCertificate* const signer = issuer != nullptr ? issuer : this;
    X509_set_issuer_name(made, X509_get_subject_name(signer->certificate_.get()));
    AddExtension(NID_basic_constraints, issue.authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!issue.names.empty()) AddExtension(NID_subject_alt_name, issue.names);
    Expect(X509_sign(made, signer->key_.get(), EVP_sha256()) > 0, "signature");
  }

  std::string certificate() const { return PemOf(certificate_.get()); }
  std::string key(const std::string& passphrase = "") const {
    return PemOf(key_.get(), passphrase);
  }

 private:
  static long SecondsFromNow(absl::Time time) {
    return static_cast<long>(absl::ToInt64Seconds(time - absl::Now()));
  }
  void AddExtension(int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate_.get(), certificate_.get(), nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
        X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()), &X509_EXTENSION_free);
    Expect(extension != nullptr, "extension");
    X509_add_ext(certificate_.get(), extension.get(), -1);
  }

  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
  std::unique_ptr<X509, decltype(&X509_free)> certificate_;
};

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_TESTS_RPC_TEST_CERTIFICATES_H_
