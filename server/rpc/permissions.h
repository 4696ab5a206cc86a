// Which role each method needs. This table is enforced by service.h, shown by `backpropd
// --print-permissions`, and is part of docs/security.md.
#ifndef BACKPROP_SERVER_RPC_PERMISSIONS_H_
#define BACKPROP_SERVER_RPC_PERMISSIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/auth/role.h"
#include "server/rpc/call/caller.h"

namespace backprop::rpc {

struct Permission {
  absl::string_view service;  // full name: "backprop.v1.TrainingService"
  absl::string_view method;   // "Step"
  auth::Role role;            // the least one that may call it
};

// All methods that are registered through service.h. The other one is gRPC's health service, which
// everyone may call, because load balancers and orchestrators have no credentials.
const std::vector<Permission>& Permissions();

// Returns the row of a method, or null if the table has none.
const Permission* FindPermission(absl::string_view service, absl::string_view method);

// Whether calls of a method are changes for the audit log: those of our services that need more
// than the role of a reader, except methods that only get or list. A backup counts: it takes all
// data.
bool IsChange(const Permission& permission);

// PERMISSION_DENIED (ROLE_TOO_LOW) with the method and both roles, unless the caller's role is
// enough.
absl::Status CheckRole(const Permission& permission, const Caller& caller);

// The table as Markdown: a row for each method, a column for each role.
std::string PermissionsAsMarkdown();

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_PERMISSIONS_H_
