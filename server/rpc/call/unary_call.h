// One unary call.
#ifndef BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
#define BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/rpc/call/call_scope.h"
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
  // `model` must live as long as the request.
  UnaryCall(const CallInfo& info, absl::string_view model)
      : scope_(info, model, CallScope::Cancellation::kAsked),
        reactor_(info.grpc->DefaultReactor()) {}

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // Keeps `memory` counted until Done.
  void Hold(session::MemoryBudget::Claim memory) { memory_ = std::move(memory); }

  const Caller& caller() const { return scope_.caller(); }
  // Whether the caller no longer waits: it cancelled, its connection broke, or its deadline passed.
  bool cancelled() const { return scope_.cancelled(); }
  absl::Time deadline() const { return scope_.deadline(); }

  void Done(const absl::Status& status) {
    reactor_->Finish(scope_.End(status));
    scope_.Leave();
    delete this;
  }

  // Returns a callback for an operation with a result: void(const absl::StatusOr<T>&). It is Done
  // with the error, or, after `encode(const T&)` has written the result into the response, with OK.
  template <class Encode>
  auto Answer(Encode encode) {
    return [this, encode = std::move(encode)](const auto& result) {
      if (result.ok()) encode(*result);
      Done(result.status());
    };
  }

 private:
  ~UnaryCall() = default;

  CallScope scope_;
  grpc::ServerUnaryReactor* const reactor_;
  session::MemoryBudget::Claim memory_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
