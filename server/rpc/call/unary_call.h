// One unary call.
#ifndef BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
#define BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/base/limits.h"
#include "server/rpc/call/status.h"
#include "server/rpc/context.h"
#include "server/session/memory_budget.h"

namespace backprop::rpc {

// Created on the heap by the method. Done must be called exactly once, from any thread, and deletes
// the object. The request, the response and this object live until Done; none of them may be used
// after it.
//
// Uses gRPC's default reactor: for a reactor of our own, gRPC would call the last reaction on
// another thread, which costs one thread switch per call.
class UnaryCall final {
 public:
  // `method` must be a literal. `model` must live as long as the request.
  UnaryCall(Context* context, grpc::CallbackServerContext* call, const char* method,
            const std::string& model)
      : context_(context),
        call_(call),
        reactor_(call->DefaultReactor()),
        method_(method),
        model_(model) {
    context_->calls.Enter();
  }

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // Keeps `memory` counted until Done.
  void Hold(session::MemoryBudget::Claim memory) { memory_ = std::move(memory); }

  // Whether the caller no longer waits: it cancelled, its connection broke, or its deadline passed.
  bool cancelled() const { return call_->IsCancelled(); }

  void Done(const absl::Status& status) {
    if (context_->observer) {
      context_->observer({method_, model_, status.code(), status.message(), absl::Now() - begin_});
    }
    reactor_->Finish(ToGrpc(status));
    context_->calls.Leave();
    delete this;
  }

 private:
  ~UnaryCall() = default;

  Context* const context_;
  grpc::CallbackServerContext* const call_;
  grpc::ServerUnaryReactor* const reactor_;
  const char* const method_;
  const std::string& model_;
  const absl::Time begin_ = absl::Now();
  session::MemoryBudget::Claim memory_;
};

// Counts the memory of a request of `bytes` bytes: twice its size, for the message and its decoded
// form. Requests below base::kUncountedBytes are not counted. RESOURCE_EXHAUSTED if the memory
// limit is reached.
inline absl::StatusOr<session::MemoryBudget::Claim> MemoryOfRequest(Context* context,
                                                                    int64_t bytes) {
  if (bytes < base::kUncountedBytes) return session::MemoryBudget::Claim();
  return context->environment->memory.AskForWork(2 * bytes, "the request");
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
