// Registers a handler for each RPC of TrainingService.
#ifndef BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
#define BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_

#include "backprop/v1/training_service.grpc.pb.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

class TrainingService final : public ServiceBase<v1::TrainingService> {
 public:
  // `context` must outlive the service.
  explicit TrainingService(Context* context);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
