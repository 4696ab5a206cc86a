#include "server/rpc/call/call_scope.h"

#include <grpcpp/test/default_reactor_test_peer.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/base/call_times.h"
#include "server/base/limits.h"
#include "server/base/status.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/unary_call.h"
#include "server/session/memory_budget.h"

namespace backprop::rpc {
namespace {

class CallScopeTest : public testing::Test {
 protected:
  struct Logged {
    std::string method;
    std::string model;
    absl::StatusCode code;
    std::string message;
    absl::Duration elapsed;
    std::string project;
    std::string request_id;
    bool timed;
  };

  CallInfo Info() { return {&calls, "Step", grpc.get()}; }
  bool NoneIsLeft() { return calls.WaitForNone(absl::ZeroDuration()); }

  std::unique_ptr<grpc::CallbackServerContext> grpc =
      std::make_unique<grpc::CallbackServerContext>();
  std::vector<Logged> logged;
  Calls calls{CallObservers{.every = [this](const CallRecord& call) {
    logged.push_back({call.method, std::string(call.resource), call.code, std::string(call.message),
                      call.elapsed, call.caller.project, call.identity.request_id,
                      call.times != nullptr});
  }}};
};
using CallScopeDeathTest = CallScopeTest;
using UnaryCallTest = CallScopeTest;
using CallsTest = CallScopeTest;

TEST_F(CallScopeTest, IsWaitedForUntilItLeaves) {
  EXPECT_TRUE(NoneIsLeft());
  CallScope scope(Info(), "models/m", CallScope::Cancellation::kTold);
  EXPECT_FALSE(NoneIsLeft());
  scope.End(absl::OkStatus());
  EXPECT_FALSE(NoneIsLeft()) << "gRPC has not taken the status yet";
  scope.Leave();
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(CallScopeTest, EveryCallIsWaitedFor) {
  CallScope one(Info(), "", CallScope::Cancellation::kTold);
  CallScope other(Info(), "", CallScope::Cancellation::kTold);
  one.End(absl::OkStatus());
  one.Leave();
  EXPECT_FALSE(NoneIsLeft());
  other.End(absl::OkStatus());
  other.Leave();
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(CallScopeTest, TheEndIsLogged) {
  const std::string model = "models/m";
  CallScope scope(Info(), model, CallScope::Cancellation::kTold);
  absl::SleepFor(absl::Milliseconds(2));
  EXPECT_TRUE(logged.empty());
  scope.End(absl::NotFoundError("there is none"));
  scope.Leave();
  ASSERT_EQ(logged.size(), 1U);
  EXPECT_EQ(logged[0].method, "Step");
  EXPECT_EQ(logged[0].model, "models/m");
  EXPECT_EQ(logged[0].code, absl::StatusCode::kNotFound);
  EXPECT_EQ(logged[0].message, "there is none");
  EXPECT_GE(logged[0].elapsed, absl::Milliseconds(2));
  EXPECT_EQ(logged[0].project, "default");
  EXPECT_EQ(logged[0].request_id.size(), 32U);
  EXPECT_FALSE(logged[0].timed);
}

TEST_F(CallScopeTest, WhatWasCreatedIsTheResource) {
  CallScope scope(Info(), "", CallScope::Cancellation::kTold);
  scope.SetResource("models/new");
  scope.End(absl::OkStatus());
  scope.Leave();
  ASSERT_EQ(logged.size(), 1U);
  EXPECT_EQ(logged[0].model, "models/new");
}

TEST_F(CallScopeTest, OnlyCallsThatChangeSomethingAreObservedAsChanges) {
  std::vector<std::string> changes;
  Calls observed{
      CallObservers{.change = [&](const CallRecord& call) { changes.emplace_back(call.method); }}};
  for (const bool changes_something : {true, false}) {
    CallScope scope({.calls = &observed,
                     .method = changes_something ? "Step" : "Predict",
                     .grpc = grpc.get(),
                     .changes = changes_something},
                    "models/m", CallScope::Cancellation::kTold);
    scope.End(absl::AbortedError("also when it fails"));
    scope.Leave();
  }
  EXPECT_EQ(changes, (std::vector<std::string>{"Step"}));
}

TEST_F(CallScopeTest, SlowCallsTellWhereTheirTimeWent) {
  std::vector<std::chrono::nanoseconds> computing;
  Calls observed{CallObservers{.slow =
                                   [&](const CallRecord& call) {
                                     computing.push_back(
                                         call.times->spent(base::CallStage::kCompute));
                                   },
                               .slow_from = absl::Milliseconds(30)}};
  for (const bool slow : {true, false}) {
    grpc = std::make_unique<grpc::CallbackServerContext>();
    grpc::testing::DefaultReactorTestPeer peer(grpc.get());
    auto* const call = new UnaryCall({&observed, "Step", grpc.get()}, "models/m");
    ASSERT_NE(call->Decoded(), nullptr);
    absl::SleepFor(absl::Milliseconds(slow ? 40 : 0));
    call->times()->EndOf(base::CallStage::kCompute);
    call->Done(absl::OkStatus());
  }
  ASSERT_EQ(computing.size(), 1U);
  EXPECT_GE(computing[0], std::chrono::milliseconds(40));
}

TEST_F(CallScopeTest, CallsAreNotTimedWithoutAnObserverOfSlowOnes) {
  grpc::testing::DefaultReactorTestPeer peer(grpc.get());
  auto* const call = new UnaryCall(Info(), "");
  EXPECT_EQ(call->times(), nullptr);
  EXPECT_EQ(call->Decoded(), nullptr);
  call->Done(absl::OkStatus());
}

TEST_F(CallScopeTest, AnErrorHasTheRequestIdInItsDetails) {
  CallScope scope(Info(), "", CallScope::Cancellation::kTold);
  const grpc::Status status = scope.End(absl::NotFoundError("there is none"));
  scope.Leave();
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::RequestInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.request_id(), logged[0].request_id);
}

TEST_F(CallScopeTest, TheEndReturnsTheStatusForGrpcWithItsDetails) {
  CallScope scope(Info(), "", CallScope::Cancellation::kTold);
  const grpc::Status status = scope.End(base::FieldError("batch", "is required"));
  scope.Leave();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "batch: is required");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "batch");
}

TEST_F(CallScopeTest, AReactorTellsThatTheCallerHasGoneAlsoWhenGrpcsContextHas) {
  CallScope scope(Info(), "", CallScope::Cancellation::kTold);
  EXPECT_FALSE(scope.cancelled());
  scope.End(absl::OkStatus());
  scope.Leave();
  grpc = nullptr;  // a step that was not answered may still ask
  EXPECT_FALSE(scope.cancelled());
  scope.Cancel();
  EXPECT_TRUE(scope.cancelled());
}

TEST_F(CallScopeTest, WithoutADeadlineItIsInfinite) {
  CallScope scope(Info(), "", CallScope::Cancellation::kTold);
  EXPECT_EQ(scope.deadline(), absl::InfiniteFuture());
  scope.End(absl::OkStatus());
  scope.Leave();
}

TEST_F(CallScopeDeathTest, TheOrderOfItsPhasesIsChecked) {
  const auto ended = [this](int ends) {
    CallScope scope(Info(), "", CallScope::Cancellation::kTold);
    for (int i = 0; i < ends; ++i) scope.End(absl::OkStatus());
    scope.Leave();
  };
  ended(1);
  EXPECT_DEATH(ended(0), "");
  EXPECT_DEATH(ended(2), "");
  EXPECT_DEATH(
      {
        CallScope scope(Info(), "", CallScope::Cancellation::kTold);
        scope.End(absl::OkStatus());
      },
      "");
}

TEST_F(UnaryCallTest, DoneFinishesTheReactorAndLeaves) {
  grpc::testing::DefaultReactorTestPeer peer(grpc.get());
  const std::string model = "models/m";
  auto* const call = new UnaryCall(Info(), model);
  EXPECT_EQ(call->reactor(), peer.reactor());
  EXPECT_FALSE(NoneIsLeft());
  EXPECT_FALSE(peer.test_status_set());
  call->Done(absl::AbortedError("again"));
  ASSERT_TRUE(peer.test_status_set());
  EXPECT_EQ(peer.test_status().error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(peer.test_status().error_message(), "again");
  EXPECT_TRUE(NoneIsLeft());
  ASSERT_EQ(logged.size(), 1U);
  EXPECT_EQ(logged[0].model, "models/m");
}

TEST_F(UnaryCallTest, HoldsMemoryUntilItIsDone) {
  grpc::testing::DefaultReactorTestPeer peer(grpc.get());
  const base::Limits limits;
  session::MemoryBudget budget(&limits);
  auto* const call = new UnaryCall(Info(), "");
  call->Hold({budget.CountWork(1000), {}, {}});
  EXPECT_EQ(budget.work(), 1000);
  call->Done(absl::OkStatus());
  EXPECT_EQ(budget.work(), 0);
}

TEST_F(UnaryCallTest, AnswersWithAnEncodedResultOrAnError) {
  for (const absl::StatusOr<int>& result :
       {absl::StatusOr<int>(7), absl::StatusOr<int>(absl::DataLossError("damaged"))}) {
    grpc = std::make_unique<grpc::CallbackServerContext>();
    grpc::testing::DefaultReactorTestPeer peer(grpc.get());
    std::optional<int> encoded;
    auto* const call = new UnaryCall(Info(), "");
    auto answer = call->Answer([&](int value) { encoded = value; });
    EXPECT_FALSE(peer.test_status_set());
    answer(result);
    ASSERT_TRUE(peer.test_status_set());
    EXPECT_EQ(peer.test_status().error_code(),
              static_cast<grpc::StatusCode>(result.status().code()));
    EXPECT_EQ(encoded, result.ok() ? std::make_optional(7) : std::nullopt);
  }
  EXPECT_TRUE(NoneIsLeft());
}

class Told final : public OpenCall {
 public:
  explicit Told(Calls* calls) : calls_(calls) {}
  void OnServerStop() override {
    ++times;
    calls_->AddOpen(nullptr);  // needs the lock
  }
  Progress progress() const override { return now; }
  void CheckIdle(absl::Time /*now*/, absl::Duration /*timeout*/) override { ++checks; }
  Progress now;
  int times = 0;
  int checks = 0;

 private:
  Calls* const calls_;
};

TEST_F(CallsTest, AStopIsToldOnceToTheCallsThatStillExist) {
  const auto open = std::make_shared<Told>(&calls);
  auto gone = std::make_shared<Told>(&calls);
  calls.AddOpen(gone);
  calls.AddOpen(open);
  gone = nullptr;
  calls.NotifyStop();
  EXPECT_EQ(open->times, 1);
  calls.NotifyStop();
  EXPECT_EQ(open->times, 1);
}

TEST_F(CallsTest, ACallThatBeginsAfterAStopIsToldAtOnce) {
  calls.NotifyStop();
  const auto late = std::make_shared<Told>(&calls);
  calls.AddOpen(late);
  EXPECT_EQ(late->times, 1);
}

TEST_F(CallsTest, ReadersAreTheOnlyCallsIfAllWaitForTheirCallers) {
  EXPECT_FALSE(calls.Readers().waits_for_reader) << "there is no call";
  const auto one = std::make_shared<Told>(&calls);
  const auto other = std::make_shared<Told>(&calls);
  one->now = {true, 3};
  other->now = {false, 4};
  for (const auto& call : {one, other}) {
    calls.Enter();
    calls.AddOpen(call);
  }
  EXPECT_FALSE(calls.Readers().waits_for_reader) << "the other one works";
  other->now = {true, 5};
  EXPECT_TRUE(calls.Readers().waits_for_reader);
  EXPECT_EQ(calls.Readers().events, 8);
  calls.Enter();
  EXPECT_FALSE(calls.Readers().waits_for_reader) << "a call with one response works";
  calls.Leave();
  calls.Leave(one.get());
  calls.Leave(other.get());
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(CallsTest, IdleCallsAreLookedForUntilTheyLeave) {
  const auto open = std::make_shared<Told>(&calls);
  calls.Enter();
  calls.AddOpen(open);
  calls.EndIdle(absl::Now(), absl::Seconds(1));
  calls.EndIdle(absl::Now(), absl::Seconds(1));
  EXPECT_EQ(open->checks, 2);
  calls.Leave(open.get());
  calls.EndIdle(absl::Now(), absl::Seconds(1));
  EXPECT_EQ(open->checks, 2);
}

}  // namespace
}  // namespace backprop::rpc
