// The file of named servers, config.toml:
//
//     current_context = "prod"
//
//     [contexts.prod]
//     server = "backpropd.example.com:50051"
//     tls = true
//     ca = "prod/ca.pem"             # relative to the folder of this file; "~/" is the home folder
//     cert = "prod/me.pem"
//     key = "prod/me.key"
//     tls_server_name = "backpropd"  # the name in the server's certificate, if it is another one
//     token_file = "prod/token"
#ifndef BACKPROP_CLIENT_CLI_CONTEXTS_H_
#define BACKPROP_CLIENT_CLI_CONTEXTS_H_

#include <map>
#include <string>

namespace backprop::cli {

// A named server. Empty fields are not set. Paths are absolute, or relative to the working
// directory.
struct Context {
  std::string server;
  bool tls = false;  // true by default if one of the next four fields is set
  std::string ca;
  std::string cert;
  std::string key;
  std::string tls_server_name;
  std::string token_file;
};

struct Contexts {
  std::string file;     // its path, whether or not it exists
  std::string current;  // empty: none
  std::map<std::string, Context> all;

  // The named context. Throws DataError that lists the names if there is none.
  const Context& Find(const std::string& name) const;
};

// Reads $XDG_CONFIG_HOME/backprop/config.toml, by default ~/.config/backprop/config.toml. There are
// no contexts if the file does not exist. Throws DataError that names file, line and key: the file
// cannot be read or is not TOML, a key is unknown or has a wrong type, every user may write to the
// file.
Contexts ReadContexts();

// Makes `name` the current context; leaves everything else in the file as it is. Throws DataError.
void SetCurrentContext(const Contexts& contexts, const std::string& name);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_CONTEXTS_H_
