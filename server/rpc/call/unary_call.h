// One unary call.
#ifndef BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
#define BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/call_times.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/rpc/call/call_scope.h"
#include "server/rpc/call/overload_control.h"
#include "server/rpc/call/sending.h"
#include "server/session/memory_budget.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// What is counted for a request while its call is under way.
struct RequestClaims {
  session::MemoryBudget::Claim memory;
  session::Project::Claim in_flight;
  OverloadControl::Permit permit;
};

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
        grpc_(info.grpc),
        reactor_(info.grpc->DefaultReactor()) {}

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // Keeps `claims` until Done.
  void Hold(RequestClaims claims) { claims_ = std::move(claims); }

  // Done must count `response`, if it is large, and put the claim into `*sent`, which must live
  // until gRPC has sent it. If `sending` is exhausted, the call ends with that error instead: large
  // responses are those of calls that change nothing.
  void CountResponse(const google::protobuf::Message* response, Sending* sending,
                     Sending::Claim* sent) {
    response_ = response;
    sending_ = sending;
    sent_ = sent;
  }

  const Caller& caller() const { return scope_.caller(); }
  // Whether the caller no longer waits: it cancelled, its connection broke, or its deadline passed.
  bool cancelled() const { return scope_.cancelled(); }
  absl::Time deadline() const { return scope_.deadline(); }

  // See CallScope.
  base::CallTimes* times() { return scope_.times(); }
  // The same; the request is decoded now.
  base::CallTimes* Decoded() {
    base::EndOf(base::CallStage::kDecode, times());
    return times();
  }
  void SetResource(std::string name) { scope_.SetResource(std::move(name)); }

  void Done(const absl::Status& status) {
    if (!status.ok()) AddPushback(status);
    const grpc::Status end = scope_.End(status.ok() ? ClaimResponse() : status);
    // Before a server that stops, and the caller, know that the call has ended.
    claims_.permit = {};
    claims_.in_flight = {};
    reactor_->Finish(end);
    scope_.Leave();
    delete this;
  }

  // Returns a callback for an operation with a result: void(const absl::StatusOr<T>&). It is Done
  // with the error, or, after `encode(const T&)` has written the result into the response, with OK.
  template <class Encode>
  auto Answer(Encode encode) {
    return [this, encode = std::move(encode)](const auto& result) {
      base::EndOf(base::CallStage::kStore, times());
      if (result.ok()) encode(*result);
      Done(result.status());
    };
  }

 private:
  ~UnaryCall() = default;

  absl::Status ClaimResponse() {
    if (response_ == nullptr) return absl::OkStatus();
    const auto bytes = static_cast<int64_t>(response_->ByteSizeLong());
    if (bytes < base::kUncountedBytes) return absl::OkStatus();
    // The message, and its serialized form.
    auto claim = sending_->Ask(2 * bytes, "the response", grpc_->c_call());
    if (!claim.ok()) return claim.status();
    *sent_ = *std::move(claim);
    return absl::OkStatus();
  }

  // Tells clients of gRPC with a retry policy when to retry (gRFC A6), as RetryInfo tells others.
  void AddPushback(const absl::Status& error) {
    const auto reason = base::ReasonOf(error);
    if (!reason.has_value() || !reason->retry_after.has_value()) return;
    const int64_t ms = absl::ToInt64Milliseconds(*reason->retry_after);
    grpc_->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(ms));
  }

  CallScope scope_;
  grpc::CallbackServerContext* const grpc_;  // gone after Done
  grpc::ServerUnaryReactor* const reactor_;
  RequestClaims claims_;
  const google::protobuf::Message* response_ = nullptr;  // null: not counted
  Sending* sending_ = nullptr;
  Sending::Claim* sent_ = nullptr;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_UNARY_CALL_H_
