// The peer of a call that another listener of this process has received and forwards through the
// in-process channel, where gRPC knows no peer.
#ifndef BACKPROP_SERVER_RPC_CALL_FORWARDED_PEER_H_
#define BACKPROP_SERVER_RPC_CALL_FORWARDED_PEER_H_

#include <grpcpp/server_context.h>

#include <optional>
#include <string>
#include <vector>

namespace backprop::rpc {

struct ForwardedPeer {
  std::string address;  // as gRPC writes it: "ipv4:10.0.0.1:4711"
  // URIs in the peer's certificate, which TLS has verified.
  std::vector<std::string> certificate_uris;
};

// The metadata by which a forwarded call names its peer. The value begins with a secret that is
// drawn when the process starts and never leaves it, so that a peer cannot make one up; it is
// believed only of calls of the in-process channel.
inline constexpr char kForwardedPeerKey[] = "bp-forwarded-peer-bin";
std::string ForwardedPeerValue(const ForwardedPeer& peer);

// Unset if the call was not forwarded: gRPC knows its peer. Copies the metadata on first use.
std::optional<ForwardedPeer> ForwardedPeerOf(const grpc::CallbackServerContext& call);

// The address of the caller, for logs and limits.
std::string PeerAddressOf(const grpc::CallbackServerContext& call,
                          const std::optional<ForwardedPeer>& forwarded);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_FORWARDED_PEER_H_
