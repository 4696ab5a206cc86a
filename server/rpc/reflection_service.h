// The services grpc.reflection.v1 and v1alpha: tools learn the contract from them. gRPC 1.51 has
// only v1alpha, and its service can be called by everyone; these check the caller like all other
// methods.
#ifndef BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_
#define BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"

namespace backprop::rpc {

// Describes the services of this process from their generated code.
class ReflectionService final : public ServiceBase<grpc::reflection::v1::ServerReflection> {
 public:
  // `context` must outlive the service.
  explicit ReflectionService(Context* context);
};

// The same for older tools, in another package.
class ReflectionServiceV1Alpha final
    : public ServiceBase<grpc::reflection::v1alpha::ServerReflection> {
 public:
  explicit ReflectionServiceV1Alpha(Context* context);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_REFLECTION_SERVICE_H_
