// Every unary call.
#ifndef BACKPROP_SERVER_RPC_UNARY_CALL_H_
#define BACKPROP_SERVER_RPC_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/base/limits.h"
#include "server/rpc/context.h"
#include "server/rpc/status.h"
#include "server/session/memory_budget.h"

namespace backprop::rpc {

// Made by the method, answered exactly once through Done, from any thread; deletes itself then. The
// request, the reply and this object live until Done, none of them may be touched after it.
//
// gRPC's default reactor does the rest: one of our own would have its last reaction made on another
// thread, which costs a hand-over a call.
class UnaryCall final {
 public:
  // `model` must live as long as the request.
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

  // Has the call count memory until Done.
  void Hold(session::MemoryBudget::Claim memory) { memory_ = std::move(memory); }

  // Whether the caller has gone: it cancelled, its connection broke, or its deadline passed.
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

// Counts the memory of a large request of so many bytes, as a message and decoded.
// RESOURCE_EXHAUSTED.
inline absl::StatusOr<session::MemoryBudget::Claim> MemoryOfRequest(Context* context,
                                                                    int64_t bytes) {
  if (bytes < base::kUncountedBytes) return session::MemoryBudget::Claim();
  return context->environment->memory.AskForWork(2 * bytes, "the request");
}

// What an operation answers with when its caller has gone.
inline absl::Status CallerGone() { return absl::CancelledError("the caller has gone"); }

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_UNARY_CALL_H_
