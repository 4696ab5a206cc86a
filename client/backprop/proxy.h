// Selection of the proxy of a connection. Not installed.
#ifndef BACKPROP_CLIENT_PROXY_H_
#define BACKPROP_CLIENT_PROXY_H_

#include <functional>
#include <optional>
#include <string>

namespace backprop {

// Returns the value of an environment variable, if it is set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> SystemEnvironment(const std::string& name);

struct ProxyChoice {
  std::string url;       // without a user name and password
  std::string variable;  // the variable that names it
};

// Returns the proxy that gRPC uses for `address` ("host:port", "dns:///host:port", "unix:path"), by
// gRPC's rules: the first of grpc_proxy, https_proxy and http_proxy that is set, unless the host
// ends with an entry of no_grpc_proxy or, if that is not set, no_proxy. Loopback addresses and Unix
// sockets never use a proxy; "*" in no_proxy matches every host.
std::optional<ProxyChoice> ProxyFor(const std::string& address, const Environment& environment);

// Whether the bytes to `address` do not leave this machine: a loopback address or a Unix socket.
bool IsThisMachine(const std::string& address);

}  // namespace backprop

#endif  // BACKPROP_CLIENT_PROXY_H_
