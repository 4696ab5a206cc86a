#include "client/cli/server_address.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace backprop::cli {
namespace {

constexpr char kDefaultPort[] = "50051";

bool IsPort(const std::string& text) {
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoi(text) >= 1 && std::stoi(text) <= 65535;
}

}  // namespace

std::string CompleteServerAddress(std::string* address) {
  std::string expected =
      "expected host:port, host, [IPv6]:port or unix:path, got \"" + *address + "\"";
  for (const char* scheme : {"http://", "https://", "grpc://", "tcp://"}) {
    if (!absl::StartsWith(*address, scheme)) continue;
    return expected + "; omit " + scheme;
  }
  for (const char* scheme : {"unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:"}) {
    if (absl::StartsWith(*address, scheme)) {
      return address->size() > std::string(scheme).size() ? "" : expected;
    }
  }
  if (address->empty() || address->find_first_of(" \t\n/") != std::string::npos) return expected;
  std::string host = *address, port = kDefaultPort;
  if (absl::StartsWith(host, "[")) {
    const size_t end = host.find(']');
    if (end == std::string::npos || end == 1) return expected;
    const std::string rest = host.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return expected;
    if (!rest.empty()) port = rest.substr(1);
    host.resize(end + 1);
  } else if (std::count(host.begin(), host.end(), ':') >= 2) {
    host = "[" + host + "]";  // an IPv6 address without a port, since a port requires brackets
  } else if (const size_t colon = host.find(':'); colon != std::string::npos) {
    port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.empty()) return expected;
  if (!IsPort(port)) return expected + "; a port is a number from 1 to 65535";
  *address = host + ":" + port;
  return "";
}

}  // namespace backprop::cli
