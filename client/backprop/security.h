// How a client and its server trust each other: TLS and bearer tokens.
#ifndef BACKPROP_CLIENT_SECURITY_H_
#define BACKPROP_CLIENT_SECURITY_H_

#include <string>

namespace backprop {

// Files are PEM and are read once, by the constructor of the client. If one of them cannot be read
// or used, every call fails with kFailedPrecondition, and the message names the file.
struct TlsOptions {
  // Certificates of the authorities that may have signed the server's: a file, or its text, which
  // is used if it is not empty. Both empty: the authorities that gRPC finds on the system.
  std::string ca_file{};
  std::string ca_pem{};
  // The client's certificate, followed by intermediate ones, and its private key. Needed if the
  // server requires client certificates. Both or neither.
  std::string certificate_file{};
  std::string key_file{};
  // Name that the server's certificate must have. Empty: the host of the address.
  std::string server_name{};
};

// A bearer token, sent with every call. At most one of the first two fields may be set. If neither
// is, the token in the environment variable BACKPROP_TOKEN is sent, if there is one.
struct TokenOptions {
  std::string token{};  // visible ASCII characters, at most 8 KiB
  // A file with the token; white space at its ends is ignored. It is read again when it changes. If
  // it cannot be read, calls fail with kUnauthenticated.
  std::string file{};
  // Without TLS a token is only sent to this machine: to loopback addresses and Unix sockets. Calls
  // to others fail with kFailedPrecondition and do not send it, unless this is set.
  bool allow_clear_text = false;
  bool use_environment = true;  // whether to use BACKPROP_TOKEN
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_SECURITY_H_
