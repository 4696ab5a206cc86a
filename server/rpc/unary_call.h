// The reactor of every unary call.
#ifndef BACKPROP_SERVER_RPC_UNARY_CALL_H_
#define BACKPROP_SERVER_RPC_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/rpc/context.h"
#include "server/rpc/hand_over.h"
#include "server/rpc/status.h"

namespace backprop::rpc {

// Made by the method, answered exactly once through Done, from any thread; deletes itself when
// gRPC is finished with it. The request, the reply and this object live until Done, none of them
// may be touched after it.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // `model` must live as long as the request.
  UnaryCall(Context* context, const char* method, const std::string& model)
      : context_(context), method_(method), model_(model) {
    context_->calls.Enter();
    HandOver(this);
  }

  // Whether the caller has gone: it cancelled, its connection broke, or its deadline passed.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  void Done(const absl::Status& status) {
    if (context_->observer) {
      context_->observer({method_, model_, status.code(), status.message(), absl::Now() - begin_});
    }
    HandOver(this);
    Finish(ToGrpc(status));
  }

  void OnCancel() override {
    TakeOver(this);
    cancelled_.store(true, std::memory_order_relaxed);
  }
  void OnDone() override {
    TakeOver(this);
    context_->calls.Leave();
    delete this;
  }

 private:
  Context* const context_;
  const char* const method_;
  const std::string& model_;
  const absl::Time begin_ = absl::Now();
  std::atomic<bool> cancelled_{false};
};

// What an operation answers with when its caller has gone.
inline absl::Status CallerGone() { return absl::CancelledError("the caller has gone"); }

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_UNARY_CALL_H_
