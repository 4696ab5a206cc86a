// How the command line reaches its server: flags, environment and contexts.
#ifndef BACKPROP_CLIENT_CLI_CONNECTION_H_
#define BACKPROP_CLIENT_CLI_CONNECTION_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "backprop/security.h"

namespace backprop::cli {

// The flags, as given; empty fields were not given.
struct ConnectionFlags {
  std::string server;
  std::string context;
  bool tls = false;
  std::string ca;
  std::string cert;
  std::string key;
  std::string tls_server_name;
  std::string token_file;
};

struct Connection {
  std::string server = "127.0.0.1:50051";
  std::optional<TlsOptions> tls;
  TokenOptions token;
};

// Adds the flags to the program.
void AddConnectionFlags(CLI::App* app, ConnectionFlags* flags);

// Takes each setting from the first of these that has it: its flag; the context that --context or
// BACKPROP_CONTEXT names; BACKPROP_SERVER and BACKPROP_TOKEN; the current context; the default. A
// server that is given excludes a context that is not: --server all but --context, BACKPROP_SERVER
// the current context. So the token of a context does not go to another server by accident. Throws
// DataError, also about a file that is wrong, and CLI::ValidationError about BACKPROP_SERVER.
Connection ResolveConnection(const ConnectionFlags& flags);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_CONNECTION_H_
