// Registers a handler for each RPC of TrainingService.
#ifndef BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
#define BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_

#include <string>

#include "backprop/v1/training_service.grpc.pb.h"
#include "server/registry/session_cache.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

class TrainingService final : public ServiceBase<v1::TrainingService> {
 public:
  // `context` must outlive the service.
  explicit TrainingService(Context* context);

 private:
  // Registers a method about the model that `name` returns, the field `field` of the request. The
  // handler is called when the model was found.
  template <class Request, class Response>
  void OfModel(const char* method,
               void (*handler)(Context*, UnaryCall*, const registry::SessionPtr&, const Request&,
                               Response*),
               const std::string& (Request::*name)() const, const char* field = "model");
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
