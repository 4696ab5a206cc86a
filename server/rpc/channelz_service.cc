#include "server/rpc/channelz_service.h"

#include <google/protobuf/util/json_util.h>
#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/rpc/call/unary_call.h"

namespace backprop::rpc {
namespace {

namespace channelz = grpc::channelz::v1;

struct FreeJson {
  void operator()(char* json) const { gpr_free(json); }
};
// What gRPC's functions return: the response as JSON, or null if there is no such object.
using Json = std::unique_ptr<char, FreeJson>;

void Answer(UnaryCall* call, const Json& json, google::protobuf::Message* response) {
  if (json == nullptr) return call->Done(absl::NotFoundError("there is no such object"));
  google::protobuf::util::JsonParseOptions options;
  options.case_insensitive_enum_parsing = true;
  options.ignore_unknown_fields = true;  // a newer gRPC may have more than the contract
  const auto parsed = google::protobuf::util::JsonStringToMessage(json.get(), response, options);
  if (parsed.ok()) return call->Done(absl::OkStatus());
  call->Done(absl::UnavailableError(
      absl::StrCat("gRPC described it in another form: ", parsed.ToString())));
}

void HandleGetTopChannels(Context*, UnaryCall* call, const channelz::GetTopChannelsRequest& request,
                          channelz::GetTopChannelsResponse* response) {
  Answer(call, Json(grpc_channelz_get_top_channels(request.start_channel_id())), response);
}

void HandleGetServers(Context*, UnaryCall* call, const channelz::GetServersRequest& request,
                      channelz::GetServersResponse* response) {
  Answer(call, Json(grpc_channelz_get_servers(request.start_server_id())), response);
}

void HandleGetServer(Context*, UnaryCall* call, const channelz::GetServerRequest& request,
                     channelz::GetServerResponse* response) {
  Answer(call, Json(grpc_channelz_get_server(request.server_id())), response);
}

void HandleGetServerSockets(Context*, UnaryCall* call,
                            const channelz::GetServerSocketsRequest& request,
                            channelz::GetServerSocketsResponse* response) {
  Answer(call,
         Json(grpc_channelz_get_server_sockets(request.server_id(), request.start_socket_id(),
                                               request.max_results())),
         response);
}

void HandleGetChannel(Context*, UnaryCall* call, const channelz::GetChannelRequest& request,
                      channelz::GetChannelResponse* response) {
  Answer(call, Json(grpc_channelz_get_channel(request.channel_id())), response);
}

void HandleGetSubchannel(Context*, UnaryCall* call, const channelz::GetSubchannelRequest& request,
                         channelz::GetSubchannelResponse* response) {
  Answer(call, Json(grpc_channelz_get_subchannel(request.subchannel_id())), response);
}

void HandleGetSocket(Context*, UnaryCall* call, const channelz::GetSocketRequest& request,
                     channelz::GetSocketResponse* response) {
  Answer(call, Json(grpc_channelz_get_socket(request.socket_id())), response);
}

}  // namespace

ChannelzService::ChannelzService(Context* context) : ServiceBase(context) {
  Unary("GetTopChannels", HandleGetTopChannels);
  Unary("GetServers", HandleGetServers);
  Unary("GetServer", HandleGetServer);
  Unary("GetServerSockets", HandleGetServerSockets);
  Unary("GetChannel", HandleGetChannel);
  Unary("GetSubchannel", HandleGetSubchannel);
  Unary("GetSocket", HandleGetSocket);
}

}  // namespace backprop::rpc
