// The handlers of AdminService about projects. See handlers.h.
#ifndef BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_
#define BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_

#include "backprop/v1/admin_service.pb.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"

namespace backprop::rpc {

void HandleGetProject(Context*, UnaryCall*, const v1::GetProjectRequest&, v1::GetProjectResponse*);
void HandleListProjects(Context*, UnaryCall*, const v1::ListProjectsRequest&,
                        v1::ListProjectsResponse*);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_
