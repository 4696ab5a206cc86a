// The caller of a call.
#ifndef BACKPROP_SERVER_RPC_CALL_CALLER_H_
#define BACKPROP_SERVER_RPC_CALL_CALLER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "server/auth/role.h"
#include "server/records/project.h"
#include "server/rpc/call/call_stats.h"

namespace backprop::rpc {

struct Caller {
  Caller() = default;
  Caller(std::string its_principal, std::string its_project, auth::Role its_role)
      : principal(std::move(its_principal)), project(std::move(its_project)), role(its_role) {}

  std::string principal;                           // empty: anonymous
  std::string project = records::kDefaultProject;  // in which the call finds and creates resources
  auth::Role role = auth::Role::kReader;           // the least one
  size_t counted_project = CountedProject(project);  // for CallStats
};
using CallerPtr = std::shared_ptr<const Caller>;  // not null

// Every caller of a server without authentication, which may do everything; and the caller of a
// call that was refused before its caller was known.
inline const CallerPtr& Anonymous() {
  static const CallerPtr caller =
      std::make_shared<const Caller>("", records::kDefaultProject, auth::Role::kOperator);
  return caller;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALLER_H_
