// The handler of AdminService about the server itself. See handlers.h.
#ifndef BACKPROP_SERVER_RPC_HANDLERS_SERVER_H_
#define BACKPROP_SERVER_RPC_HANDLERS_SERVER_H_

#include "backprop/v1/admin_service.pb.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"

namespace backprop::rpc {

// Responds on gRPC's thread, which takes milliseconds: a server whose compute threads are all busy
// or blocked must still be able to say so.
void HandleGetServerStatus(Context*, UnaryCall*, const v1::GetServerStatusRequest&,
                           v1::GetServerStatusResponse*);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_HANDLERS_SERVER_H_
