// The RPCs that concern the whole server: backups, what projects use, and its status.
#ifndef BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_
#define BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

class AdminService final : public ServiceBase<v1::AdminService> {
 public:
  // `context` must outlive the service.
  explicit AdminService(Context* context);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_
