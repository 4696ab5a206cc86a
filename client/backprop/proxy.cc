#include "client/backprop/proxy.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "client/backprop/text.h"

namespace backprop {
namespace {

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// Returns the host of a TCP address in lower case, without brackets; empty for other kinds of
// address.
std::string HostOf(const std::string& address) {
  std::string rest = address;
  for (const std::string_view scheme : {"unix:", "unix-abstract:", "vsock:"}) {
    if (rest.rfind(scheme, 0) == 0) return "";
  }
  for (const std::string_view scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (rest.rfind(scheme, 0) == 0) rest = rest.substr(scheme.size());
  }
  if (rest.rfind("//", 0) == 0) {  // dns://resolver/host
    const size_t slash = rest.find('/', 2);
    rest = slash == std::string::npos ? "" : rest.substr(slash);
  }
  rest.erase(0, rest.find_first_not_of('/'));
  if (!rest.empty() && rest.front() == '[') return Lower(rest.substr(1, rest.find(']') - 1));
  const size_t colon = rest.find(':');
  if (colon != rest.rfind(':')) return Lower(rest);  // an IPv6 address without a port
  return Lower(rest.substr(0, colon));
}

bool IsLoopback(const std::string& host) {
  // A name may begin with 127 as well.
  const bool is_number = host.find_first_not_of("0123456789abcdef.:") == std::string::npos;
  return host.empty() || host == "localhost" || EndsWith(host, ".localhost") ||
         (is_number && (host.rfind("127.", 0) == 0 || host.rfind("::ffff:127.", 0) == 0)) ||
         host == "::1" || host == "0.0.0.0" || host == "::";
}

bool IsExcepted(const std::string& host, const Environment& environment) {
  auto entries = environment("no_grpc_proxy");
  if (!entries.has_value()) entries = environment("no_proxy");
  std::istringstream all(entries.value_or(""));
  for (std::string entry; std::getline(all, entry, ',');) {
    entry = Lower(Trimmed(entry));
    if (entry.empty()) continue;
    if (entry == "*" || EndsWith(host, entry) || "." + host == entry) return true;
  }
  return false;
}

std::string WithoutCredentials(const std::string& url) {
  const size_t at = url.rfind('@');
  if (at == std::string::npos) return url;
  const size_t scheme = url.find("://");
  return (scheme == std::string::npos ? "" : url.substr(0, scheme + 3)) + url.substr(at + 1);
}

}  // namespace

std::optional<std::string> SystemEnvironment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

bool IsThisMachine(const std::string& address) {
  // gRPC accepts lists of addresses, and addresses of other virtual machines.
  const bool may_leave = address.find(',') != std::string::npos || address.rfind("vsock:", 0) == 0;
  return !may_leave && IsLoopback(HostOf(address));
}

std::optional<ProxyChoice> ProxyFor(const std::string& address, const Environment& environment) {
  const std::string host = HostOf(address);
  if (IsLoopback(host)) return std::nullopt;
  for (const char* variable : {"grpc_proxy", "https_proxy", "http_proxy"}) {
    const auto url = environment(variable);
    if (!url.has_value()) continue;
    if (url->empty() || IsExcepted(host, environment)) return std::nullopt;
    return ProxyChoice{WithoutCredentials(*url), variable};
  }
  return std::nullopt;
}

}  // namespace backprop
