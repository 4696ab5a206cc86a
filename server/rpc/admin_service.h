// What concerns a server as a whole: backups.
#ifndef BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_
#define BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_

#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/rpc/context.h"

namespace backprop::rpc {

class AdminService final : public v1::AdminService::CallbackService {
 public:
  // `context` must outlive the service.
  explicit AdminService(Context* context) : context_(context) {}

  grpc::ServerWriteReactor<v1::CreateBackupResponse>* CreateBackup(
      grpc::CallbackServerContext*, const v1::CreateBackupRequest* request) override;
  grpc::ServerReadReactor<v1::RestoreBackupRequest>* RestoreBackup(
      grpc::CallbackServerContext*, v1::RestoreBackupResponse* response) override;

 private:
  Context* const context_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_ADMIN_SERVICE_H_
