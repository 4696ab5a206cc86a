// What every call has, whatever its kind.
#ifndef BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_
#define BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/status.h"

namespace backprop::rpc {

// What is known of a call when it begins.
struct CallInfo {
  Calls* calls;
  const char* method;                 // a literal: "Step"
  grpc::CallbackServerContext* grpc;  // gone when the call has ended
  CallerPtr caller = Anonymous();
};

// The life of one call: it enters when this is constructed, ends once with a status, and leaves
// once, after gRPC has taken the status. Until then the server that stops waits for it. End and
// Leave are called by one thread at a time; the other methods are thread-safe.
class CallScope {
 public:
  // How the scope learns that the caller has gone.
  enum class Cancellation {
    kAsked,  // it asks gRPC: for a default reactor. cancelled() may be called until End.
    kTold,   // the reactor calls Cancel. cancelled() may be called at any time.
  };

  // `info.calls` must outlive the scope. `model`, the name in the request, must live until End.
  CallScope(const CallInfo& info, absl::string_view model, Cancellation cancellation)
      : calls_(info.calls),
        method_(info.method),
        model_(model),
        caller_(info.caller),
        asked_(cancellation == Cancellation::kAsked ? info.grpc : nullptr),
        deadline_(info.grpc->raw_deadline()) {
    calls_->Enter();
  }
  ~CallScope() { GPR_ASSERT(phase_ == Phase::kLeft); }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  const Caller& caller() const { return *caller_; }

  // Whether the caller no longer waits: it cancelled, its connection broke, or its deadline passed.
  bool cancelled() const {
    return cancelled_.load(std::memory_order_acquire) ||
           (asked_ != nullptr && asked_->IsCancelled());
  }
  void Cancel() { cancelled_.store(true, std::memory_order_release); }

  // The time by which the caller wants the result; the infinite future if it set none.
  absl::Time deadline() const {
    // gRPC counts it on the monotonic clock.
    const gpr_timespec wall = gpr_convert_clock_type(deadline_, GPR_CLOCK_REALTIME);
    if (gpr_time_cmp(wall, gpr_inf_future(GPR_CLOCK_REALTIME)) == 0) return absl::InfiniteFuture();
    return absl::TimeFromTimespec({wall.tv_sec, wall.tv_nsec});
  }

  // Logs the end of the call, and returns the status with which the reactor must finish it.
  grpc::Status End(const absl::Status& status) {
    GPR_ASSERT(phase_ == Phase::kOpen);
    phase_ = Phase::kEnded;
    if (const CallObserver& observer = calls_->observer()) {
      observer({method_, model_, status.code(), status.message(), absl::Now() - begin_});
    }
    return ToGrpc(status);
  }

  // From now on no one waits for the call. `open` as in Calls::Leave.
  void Leave(const OpenCall* open = nullptr) {
    GPR_ASSERT(phase_ == Phase::kEnded);
    phase_ = Phase::kLeft;
    calls_->Leave(open);
  }

 private:
  // kOpen → kEnded → kLeft.
  enum class Phase { kOpen, kEnded, kLeft };

  Calls* const calls_;
  const char* const method_;
  const absl::string_view model_;
  const CallerPtr caller_;
  const grpc::CallbackServerContext* const asked_;  // null: kTold
  const gpr_timespec deadline_;
  const absl::Time begin_ = absl::Now();
  std::atomic<bool> cancelled_{false};
  Phase phase_ = Phase::kOpen;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_
