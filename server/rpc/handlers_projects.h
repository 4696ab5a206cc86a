// The handlers of AdminService about projects. See handlers.h.
#ifndef BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_
#define BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backprop/v1/admin_service.pb.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// The project with a name, projects/{id}, if the caller may see it: operators see all,
// administrators theirs. INVALID_ARGUMENT about `field`; NOT_FOUND (PROJECT_NOT_FOUND).
absl::StatusOr<session::Project*> FindProject(Context* context, const Caller& caller,
                                              absl::string_view field, const std::string& name);

void HandleGetProject(Context*, UnaryCall*, const v1::GetProjectRequest&, v1::GetProjectResponse*);
void HandleListProjects(Context*, UnaryCall*, const v1::ListProjectsRequest&,
                        v1::ListProjectsResponse*);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_HANDLERS_PROJECTS_H_
