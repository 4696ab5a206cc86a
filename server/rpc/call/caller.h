// Who makes a call.
#ifndef BACKPROP_SERVER_RPC_CALL_CALLER_H_
#define BACKPROP_SERVER_RPC_CALL_CALLER_H_

#include <memory>
#include <string>

#include "server/records/project.h"

namespace backprop::rpc {

struct Caller {
  std::string principal;                           // empty: anonymous
  std::string project = records::kDefaultProject;  // in which the call finds and creates resources
};
using CallerPtr = std::shared_ptr<const Caller>;  // not null

inline const CallerPtr& Anonymous() {
  static const CallerPtr caller = std::make_shared<const Caller>();
  return caller;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALLER_H_
