// The service grpc.channelz.v1: gRPC's statistics of its connections. gRPC's own service can be
// called by everyone; this one checks the caller like all other methods.
#ifndef BACKPROP_SERVER_RPC_CHANNELZ_SERVICE_H_
#define BACKPROP_SERVER_RPC_CHANNELZ_SERVICE_H_

#include "grpc/channelz/v1/channelz.grpc.pb.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

class ChannelzService final : public ServiceBase<grpc::channelz::v1::Channelz> {
 public:
  // `context` must outlive the service.
  explicit ChannelzService(Context* context);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CHANNELZ_SERVICE_H_
