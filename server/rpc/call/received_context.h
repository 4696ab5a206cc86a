// Knows when gRPC has received a call, which waits before it is passed to a handler.
#ifndef BACKPROP_SERVER_RPC_CALL_RECEIVED_CONTEXT_H_
#define BACKPROP_SERVER_RPC_CALL_RECEIVED_CONTEXT_H_

#include <grpcpp/server_context.h>

#include <chrono>

namespace backprop::rpc {

// gRPC creates the context of a call when it has read the request (of a stream: the metadata), and
// appends the call to the queue of its threads. What waits in the buffers of sockets is not known.
class ReceivedContext final : public grpc::CallbackServerContext {
 public:
  const std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
};

// For ServerBuilder::SetContextAllocator. Thread-safe: has no state.
class ReceivedContextAllocator final : public grpc::ContextAllocator {
 public:
  grpc::CallbackServerContext* NewCallbackServerContext() override { return new ReceivedContext; }
  // For calls of unknown methods. gRPC releases also these as CallbackServerContext, and would
  // delete a context of its own a second time.
  grpc::GenericCallbackServerContext* NewGenericCallbackServerContext() override {
    return new grpc::GenericCallbackServerContext;
  }
  void Release(grpc::CallbackServerContext* context) override { delete context; }
  void Release(grpc::GenericCallbackServerContext* context) override { delete context; }
};

// When the call was received. Its server must have been built with a ReceivedContextAllocator.
inline std::chrono::steady_clock::time_point ReceivedAt(const grpc::CallbackServerContext& call) {
  return static_cast<const ReceivedContext&>(call).received;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_RECEIVED_CONTEXT_H_
