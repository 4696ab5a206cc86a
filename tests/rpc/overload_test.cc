// What callers see of a server that has more work than it can do.
#include "server/rpc/overload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "backprop/v1/admin_service.grpc.pb.h"
#include "server/exec/queue_delay.h"
#include "server/rpc/call/overload_control.h"
#include "tests/notification.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

google::rpc::RetryInfo RetryOf(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  google::rpc::RetryInfo retry;
  for (const auto& any : details.details()) any.UnpackTo(&retry);
  return retry;
}

class OverloadTest : public ServiceTest {
 protected:
  // Steps that were sent at once.
  struct Sent {
    grpc::ClientContext context;
    v1::StepResponse response;
    grpc::Status status;
    Notification done;
  };

  static constexpr absl::Duration kTarget = absl::Milliseconds(5);
  // A model, and a step on it that takes milliseconds although its request is small.
  static constexpr char kHeavySpec[] =
      R"({"inputSize":8,"layers":[{"units":512},{"units":512},{"units":2}]})";
  static v1::StepRequest HeavyStepOn(const std::string& id) {
    constexpr int kRows = 128;
    v1::StepRequest step;
    step.set_model("models/" + id);
    for (int i = 0; i < kRows * 8; ++i) step.mutable_batch()->mutable_inputs()->add_values(0.5);
    for (int i = 0; i < kRows; ++i) step.mutable_batch()->mutable_labels()->add_values(i % 2);
    return step;
  }

  void Start(const OverloadLimits& limits) {
    server = nullptr;
    server = std::make_unique<TestServer>(base::Limits(), "", /*threads=*/1, nullptr,
                                          [&](ServerOptions* options) {
                                            options->overload = limits;
                                            options->transport.max_concurrent_streams = 1000;
                                          });
  }

  std::deque<Sent> Send(int count, const v1::StepRequest& step) {
    std::deque<Sent> sent(static_cast<size_t>(count));
    for (Sent& call : sent) {
      call.context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(120));
      server->stub->async()->Step(&call.context, &step, &call.response,
                                  [&call](const grpc::Status& status) {
                                    call.status = status;
                                    call.done.Notify();
                                  });
    }
    return sent;
  }
  static void WaitFor(std::deque<Sent>* sent) {
    for (Sent& call : *sent) call.done.WaitForNotification();
  }
  static auto Refused(const std::deque<Sent>& sent) {
    return std::count_if(sent.begin(), sent.end(),
                         [](const Sent& call) { return !call.status.ok(); });
  }
  // Occupies the only thread of the pool until the result is notified.
  void Occupy(Notification* go) {
    Notification held;
    server->pool->Post(exec::Priority::kInteractive, [&held, go] {
      held.Notify();
      go->WaitForNotification();
    });
    held.WaitForNotification();
  }
  void AwaitActive(int64_t calls) {
    while (server->context.overload.active_calls() != calls) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  // Calls were sent that take much longer than an interval.
  void AwaitStandingQueue() { absl::SleepFor(2 * exec::DelayState::kInterval * kTarget); }
  // On a slow machine, or with a sanitizer, gRPC's threads may be overloaded as well.
  static void ExpectOkOrNotReceived(const grpc::Status& status) {
    if (!status.ok()) {
      EXPECT_EQ(Info(status).metadata().at("queue"), "receiving") << status.error_message();
    }
  }
  static void CheckRefusal(const grpc::Status& status, const grpc::ClientContext& context) {
    ASSERT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    EXPECT_EQ(Info(status).reason(), "OVERLOADED");
    EXPECT_THAT(Info(status).metadata().at("queue"), testing::AnyOf("model", "receiving"));
    const auto delay = RetryOf(status).retry_delay();
    EXPECT_GE(delay.seconds() * 1000 + delay.nanos() / 1'000'000, 50);
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto pushback = trailers.find("grpc-retry-pushback-ms");
    ASSERT_NE(pushback, trailers.end());
    EXPECT_GE(std::stoi(std::string(pushback->second.data(), pushback->second.size())), 50);
  }
  grpc::Status Get(const std::string& id) {
    v1::GetModelRequest request;
    request.set_name("models/" + id);
    v1::GetModelResponse response;
    return Call(&Stub::GetModel, request, &response);
  }
};

TEST_F(OverloadTest, ExpensiveStepsThatWouldWaitAreRefusedAndCheapOnesAreNot) {
  Start({.delay_target = kTarget});
  CreateModel("heavy", kHeavySpec);
  CreateModel("xor", kXorSpec);
  const v1::StepRequest heavy = HeavyStepOn("heavy");
  const auto cheap =
      Json<v1::StepRequest>(R"({"model":"models/xor","batch":)" + std::string(kXorBatch) + "}");
  // How many calls wait long enough for the model depends on the speed of the machine.
  std::vector<std::deque<Sent>> rounds;
  const OverloadControl& overload = server->context.overload;
  while (overload.refused(Overload::kModel) == 0 && rounds.size() < 30) {
    rounds.push_back(Send(200, heavy));
    AwaitStandingQueue();
  }
  v1::StepResponse response;
  for (int i = 0; i < 50; ++i) ExpectOkOrNotReceived(Call(&Stub::Step, cheap, &response));
  int64_t refused = 0;
  for (std::deque<Sent>& round : rounds) {
    WaitFor(&round);
    refused += Refused(round);
    for (const Sent& call : round) {
      if (!call.status.ok()) CheckRefusal(call.status, call.context);
    }
  }
  const auto sent = static_cast<int64_t>(200 * rounds.size());
  EXPECT_GT(overload.refused(Overload::kModel), 0);
  EXPECT_LT(refused, sent);
  EXPECT_EQ(GetModel("heavy").step(), sent - refused) << "a refused step has changed nothing";
  // The overload is over.
  for (int i = 0; i < 20; ++i) {
    const auto status = Call(&Stub::Step, heavy, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

TEST_F(OverloadTest, QueriesAreRefusedByTheQueueOfTheirProject) {
  Start({.delay_target = kTarget});
  CreateModel("heavy", kHeavySpec);
  v1::ComputeGradientsRequest request;
  request.set_model("models/heavy");
  *request.mutable_batch() = HeavyStepOn("heavy").batch();
  std::atomic<int> ended{0}, refused{0}, other_errors{0};
  std::deque<std::pair<grpc::ClientContext, v1::ComputeGradientsResponse>> calls;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i) {
      auto& [context, response] = calls.emplace_back();
      server->stub->async()->ComputeGradients(
          &context, &request, &response, [&](const grpc::Status& status) {
            if (!status.ok()) ++(Info(status).reason() == "OVERLOADED" ? refused : other_errors);
            ++ended;
          });
    }
  };
  const OverloadControl& overload = server->context.overload;
  int sent = 0;
  for (; overload.refused(Overload::kThreads) == 0 && sent < 30 * 200; sent += 200) {
    send(200);
    AwaitStandingQueue();
  }
  while (ended < sent) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_GT(overload.refused(Overload::kThreads), 0);
  EXPECT_LT(refused, sent);
  EXPECT_EQ(other_errors, 0);
}

TEST_F(OverloadTest, AStepStreamIsSlowedDownAndNeverRefused) {
  Start({.delay_target = kTarget});
  CreateModel("heavy", kHeavySpec);
  const v1::StepRequest heavy = HeavyStepOn("heavy");
  auto sent = Send(200, heavy);
  AwaitStandingQueue();
  grpc::ClientContext context;
  const auto stream = server->stub->StepStream(&context);
  constexpr int kSteps = 100;
  std::thread sender([&] {
    v1::StepStreamRequest request;
    *request.mutable_step() = heavy;
    for (int i = 0; i < kSteps; ++i) stream->Write(request);
    stream->WritesDone();
  });
  v1::StepStreamResponse response;
  int answered = 0;
  while (stream->Read(&response)) {
    ++answered;
    EXPECT_TRUE(response.has_step()) << response.error().message();
  }
  sender.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answered, kSteps);
  WaitFor(&sent);
}

TEST_F(OverloadTest, ActiveCallsAreBoundedExceptThoseOfAdministrators) {
  Start({.max_active_calls = 4});
  CreateModel("heavy", kHeavySpec);
  AwaitActive(0);
  Notification go;
  Occupy(&go);
  const v1::StepRequest heavy = HeavyStepOn("heavy");
  auto sent = Send(4, heavy);
  AwaitActive(4);
  const auto begin = absl::Now();
  const grpc::Status refused = Get("heavy");
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << "it did not wait for the steps";
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Info(refused).reason(), "OVERLOADED");
  EXPECT_EQ(Info(refused).metadata().at("queue"), "calls");
  const auto admin = v1::AdminService::NewStub(server->channel);
  grpc::ClientContext context;
  v1::ListProjectsResponse projects;
  EXPECT_TRUE(admin->ListProjects(&context, {}, &projects).ok());
  go.Notify();
  WaitFor(&sent);
  EXPECT_EQ(Refused(sent), 0);
  AwaitActive(0);
  EXPECT_TRUE(Get("heavy").ok());
}

TEST_F(OverloadTest, WithoutLimitsEverythingWaits) {
  Start({});
  CreateModel("heavy", kHeavySpec);
  const v1::StepRequest heavy = HeavyStepOn("heavy");
  auto sent = Send(300, heavy);
  WaitFor(&sent);
  EXPECT_EQ(Refused(sent), 0);
}

TEST(RowsOfTest, CountsValuesAndRawBytes) {
  engine::NetworkSpec spec;
  spec.input_size = 4;
  spec.layers.resize(1);
  spec.layers[0].units = 2;
  const engine::Network network(spec);
  v1::Tensor tensor;
  EXPECT_EQ(RowsOf(tensor, network), 1);
  for (int i = 0; i < 12; ++i) tensor.add_values(0);
  EXPECT_EQ(RowsOf(tensor, network), 3);
  tensor.clear_values();
  tensor.set_raw(std::string(160, '\0'));
  EXPECT_EQ(RowsOf(tensor, network), 10);
  tensor.set_data_type(v1::DATA_TYPE_FLOAT64);
  EXPECT_EQ(RowsOf(tensor, network), 5);
}

}  // namespace
}  // namespace backprop::rpc
