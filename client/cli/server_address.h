// The address of a server as people write it.
#ifndef BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_
#define BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_

#include <string>

namespace backprop::cli {

// Completes `address` to what Client takes: the port 50051 where there is none, brackets around an
// IPv6 address. "localhost" becomes "localhost:50051", "::1" and "[::1]" become "[::1]:50051";
// "unix:…" and other schemes of gRPC stay. Returns "" if that was done, else what is wrong.
std::string CompleteServerAddress(std::string* address);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SERVER_ADDRESS_H_
