// The service grpc.reflection.v1, which newer tools try first. gRPC 1.51 has only v1alpha.
#ifndef BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_
#define BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

// Describes the services of this process from their generated code, like v1alpha.
class ReflectionService final : public ServiceBase<grpc::reflection::v1::ServerReflection> {
 public:
  // `context` must outlive the service.
  explicit ReflectionService(Context* context);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_
