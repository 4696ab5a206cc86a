#include "server/rpc/call/forwarded_peer.h"

#include <grpc/support/log.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace backprop::rpc {
namespace {

using Secret = std::array<char, 32>;

const Secret& ProcessSecret() {
  static const Secret secret = [] {
    Secret drawn;
    const int ok =
        RAND_bytes(reinterpret_cast<unsigned char*>(drawn.data()), static_cast<int>(drawn.size()));
    GPR_ASSERT(ok == 1);
    return drawn;
  }();
  return secret;
}

// Each text with its length before it, because a certificate may contain any byte.
void Append(const std::string& text, std::string* value) {
  const auto size = static_cast<uint32_t>(text.size());
  value->append(reinterpret_cast<const char*>(&size), sizeof(size));
  value->append(text);
}

// False at the end.
bool Take(absl::string_view* value, std::string* text) {
  uint32_t size = 0;
  if (value->size() < sizeof(size)) return false;
  std::memcpy(&size, value->data(), sizeof(size));
  value->remove_prefix(sizeof(size));
  *text = std::string(value->substr(0, size));
  value->remove_prefix(text->size());
  return true;
}

}  // namespace

std::string ForwardedPeerValue(const ForwardedPeer& peer) {
  std::string value(ProcessSecret().data(), ProcessSecret().size());
  Append(peer.address, &value);
  for (const std::string& uri : peer.certificate_uris) Append(uri, &value);
  return value;
}

namespace {

// gRPC 1.51 knows no peer of a call in the process and writes "unknown"; later versions "inproc".
bool IsInProcess(const grpc::CallbackServerContext& call) {
  const std::string peer = call.peer();
  return peer == "unknown" || absl::StartsWith(peer, "inproc");
}

}  // namespace

std::optional<ForwardedPeer> ForwardedPeerOf(const grpc::CallbackServerContext& call) {
  const auto [first, last] = call.client_metadata().equal_range(kForwardedPeerKey);
  for (auto found = first; found != last; ++found) {
    absl::string_view value(found->second.data(), found->second.size());
    const Secret& secret = ProcessSecret();
    if (value.size() < secret.size() ||
        CRYPTO_memcmp(value.data(), secret.data(), secret.size()) != 0 || !IsInProcess(call)) {
      continue;
    }
    value.remove_prefix(secret.size());
    ForwardedPeer peer;
    if (!Take(&value, &peer.address)) continue;
    for (std::string uri; Take(&value, &uri);) peer.certificate_uris.push_back(uri);
    return peer;
  }
  return std::nullopt;
}

std::string PeerAddressOf(const grpc::CallbackServerContext& call,
                          const std::optional<ForwardedPeer>& forwarded) {
  return forwarded.has_value() ? forwarded->address : call.peer();
}

}  // namespace backprop::rpc
