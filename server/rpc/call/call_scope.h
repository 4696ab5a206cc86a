// What every call has, whatever its kind.
#ifndef BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_
#define BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/call_times.h"
#include "server/rpc/call/call_identity.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/forwarded_peer.h"
#include "server/rpc/call/status.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// What is known of a call when it begins.
struct CallInfo {
  Calls* calls;
  const char* method;                 // a literal: "Step"
  grpc::CallbackServerContext* grpc;  // gone when the call has ended
  CallerPtr caller = Anonymous();
  CallStats::Method* counted = nullptr;  // where the call is counted; null: nowhere
  bool changes = false;                  // whether the method changes something
  session::Project* project = nullptr;   // whose quotas apply; null: none does
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
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
        counted_(info.counted),
        changes_(info.changes),
        grpc_(info.grpc),
        asked_(cancellation == Cancellation::kAsked ? info.grpc : nullptr),
        deadline_(info.grpc->raw_deadline()),
        begin_(info.begin) {
    if (asked_ != nullptr && calls_->observers().slow) times_.emplace(begin_);
    calls_->Enter();
    if (counted_ != nullptr) counted_->Begin();
  }
  ~CallScope() { GPR_ASSERT(phase_ == Phase::kLeft); }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  const Caller& caller() const { return *caller_; }
  Calls* calls() const { return calls_; }

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

  // Null if the call is not timed. Valid until End.
  base::CallTimes* times() { return times_.has_value() ? &*times_ : nullptr; }
  // The name of what the call has created, for the logs. Call before End.
  void SetResource(std::string name) { created_ = std::move(name); }

  // Counts and logs the end of the call, and returns the status with which the reactor must finish
  // it. Only a call that failed or is logged gets an identity.
  grpc::Status End(const absl::Status& status) {
    GPR_ASSERT(phase_ == Phase::kOpen);
    phase_ = Phase::kEnded;
    const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin_;
    if (counted_ != nullptr) {
      calls_->stats()->End(counted_, caller_->counted_project, status.code(), elapsed);
      if (!status.ok()) calls_->stats()->CountReason(status);
    }
    const CallObservers& observers = calls_->observers();
    const bool is_slow = times_.has_value() && absl::FromChrono(elapsed) >= observers.slow_from;
    const bool is_written = observers.every || is_slow || (changes_ && observers.change);
    if (status.ok() && !is_written) return grpc::Status::OK;
    // The time of a call that tells nothing of its stages belongs to none of them.
    if (times_.has_value() && times_->divided()) times_->EndOf(base::CallStage::kEncode);
    const CallIdentity identity = IdentityOf(*grpc_);
    if (is_written) Write(status, elapsed, is_slow, identity);
    return ToGrpc(status, identity);
  }

  // From now on no one waits for the call. `open` as in Calls::Leave.
  void Leave(const OpenCall* open = nullptr) {
    GPR_ASSERT(phase_ == Phase::kEnded);
    phase_ = Phase::kLeft;
    calls_->Leave(open);
  }

 private:
  void Write(const absl::Status& status, std::chrono::nanoseconds elapsed, bool is_slow,
             const CallIdentity& identity) {
    const CallObservers& observers = calls_->observers();
    const std::string peer = PeerAddressOf(*grpc_, ForwardedPeerOf(*grpc_));
    const CallRecord record{method_,
                            created_.empty() ? model_ : created_,
                            status.code(),
                            status.message(),
                            absl::FromChrono(elapsed),
                            *caller_,
                            identity,
                            peer,
                            times()};
    if (observers.every) observers.every(record);
    if (changes_ && observers.change) observers.change(record);
    if (is_slow) observers.slow(record);
  }

  // kOpen → kEnded → kLeft.
  enum class Phase { kOpen, kEnded, kLeft };

  Calls* const calls_;
  const char* const method_;
  const absl::string_view model_;
  const CallerPtr caller_;
  CallStats::Method* const counted_;
  const bool changes_;
  const grpc::CallbackServerContext* const grpc_;   // not used after End
  const grpc::CallbackServerContext* const asked_;  // null: kTold
  const gpr_timespec deadline_;
  const std::chrono::steady_clock::time_point begin_;
  std::optional<base::CallTimes> times_;
  std::string created_;
  std::atomic<bool> cancelled_{false};
  Phase phase_ = Phase::kOpen;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALL_SCOPE_H_
