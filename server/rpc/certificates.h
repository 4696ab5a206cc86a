// The certificates of a server: reads and checks the files of --tls-cert, --tls-key and
// --tls-client-ca.
#ifndef BACKPROP_SERVER_RPC_CERTIFICATES_H_
#define BACKPROP_SERVER_RPC_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace backprop::rpc {

// Whether the server asks TLS clients for a certificate.
enum class ClientAuth {
  kNone,      // no
  kOptional,  // yes; a client without one is served, one with a wrong one is refused
  kRequire,   // yes; a client without one is refused
};

// Paths of PEM files.
struct TlsFiles {
  std::string certificate;  // the server's certificate, then its intermediate ones
  std::string key;          // the private key of the first certificate, not encrypted
  std::string client_ca;    // may be empty if client_auth is kNone
  ClientAuth client_auth = ClientAuth::kNone;
};

// One certificate of a file.
struct CertificateLabel {
  std::string flag;     // "--tls-cert"
  std::string file;     // the path
  std::string subject;  // "CN=backpropd.example.com", in the form of RFC 2253
  absl::Time not_before;
  absl::Time not_after;
};

// What the files held: complete, and accepted by OpenSSL.
struct Certificates {
  std::string chain;      // PEM, as are the others
  std::string key;        // secret: never log it
  std::string client_ca;  // empty if there is no such file
  std::vector<CertificateLabel> labels;
  // What the operator should know and that does not prevent the use, each with flag and file.
  std::vector<std::string> warnings;
};

// Reads and checks the files. INVALID_ARGUMENT with flag, file and reason: a file cannot be read,
// is not a regular file, is empty or larger than 1 MiB, holds no certificate or key in PEM, a key
// is encrypted, the key is not that of the certificate, or OpenSSL refuses to use them, for example
// because a key is too short. Expired certificates are no error, because clients may ignore that,
// and a restart would otherwise turn an expired certificate into an outage.
absl::StatusOr<Certificates> ReadCertificates(const TlsFiles& files);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CERTIFICATES_H_
