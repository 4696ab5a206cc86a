// Parsing of server addresses.
#ifndef BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_
#define BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_

#include <string>

namespace backprop::cli {

// Completes `address` to the form that Client expects: adds the port 50051 if there is none, and
// brackets around an IPv6 address. "localhost" becomes "localhost:50051", "::1" and "[::1]" become
// "[::1]:50051"; "unix:…" and other gRPC schemes are unchanged. Returns "", or what is wrong with
// the address.
std::string CompleteServerAddress(std::string* address);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_
