#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "server/base/limits.h"
#include "server/exec/compute_pool.h"
#include "tests/notification.h"
#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

class StepTest : public ServiceTest {
 protected:
  static v1::StepRequest RequestFor(const std::string& id) {
    auto request = Json<v1::StepRequest>(R"({"batch":)" + std::string(kXorBatch) + "}");
    request.set_model("models/" + id);
    return request;
  }
};

TEST_F(StepTest, LossFallsAndStepsCount) {
  CreateModel("m", kXorSpec);
  v1::StepResponse response;
  double first = 0;
  for (int i = 1; i <= 500; ++i) {
    ASSERT_TRUE(Call(&Stub::Step, RequestFor("m"), &response).ok());
    EXPECT_EQ(response.step(), i);
    EXPECT_EQ(response.metrics().rows(), 4);
    EXPECT_EQ(response.learning_rate(), 0.1);
    EXPECT_GT(response.gradient_norm(), 0);
    if (i == 1) first = response.metrics().loss();
  }
  EXPECT_LT(response.metrics().loss(), first / 4);
}

TEST_F(StepTest, RetriesApplyOnce) {
  CreateModel("m", kXorSpec);
  auto request = RequestFor("m");
  request.set_request_id("once");
  v1::StepResponse first, retry;
  ASSERT_TRUE(Call(&Stub::Step, request, &first).ok());
  const std::string parameters = ParametersOf("m");
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      v1::StepResponse response;
      EXPECT_TRUE(Call(&Stub::Step, request, &response).ok());
      EXPECT_EQ(response.SerializeAsString(), first.SerializeAsString());
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(ParametersOf("m"), parameters);
}

TEST_F(StepTest, ConcurrentCallersOnOneModelAreSerial) {
  CreateModel("m", kXorSpec);
  CreateModel("serial", kXorSpec);
  std::mutex mu;
  std::set<int64_t> steps;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        v1::StepResponse response;
        EXPECT_TRUE(Call(&Stub::Step, RequestFor("m"), &response).ok());
        const std::lock_guard<std::mutex> lock(mu);
        EXPECT_TRUE(steps.insert(response.step()).second);
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(*steps.rbegin(), 200);
  v1::StepResponse response;
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(Call(&Stub::Step, RequestFor("serial"), &response).ok());
  EXPECT_EQ(ParametersOf("m"), ParametersOf("serial"));
}

TEST_F(StepTest, ConcurrentCallersOnManyModelsDoNotMix) {
  CreateModel("alone", kXorSpec);
  v1::StepResponse response;
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Call(&Stub::Step, RequestFor("alone"), &response).ok());
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    CreateModel("m" + std::to_string(c), kXorSpec);
    callers.emplace_back([&, c] {
      v1::StepResponse mine;
      for (int i = 0; i < 50; ++i) {
        EXPECT_TRUE(Call(&Stub::Step, RequestFor("m" + std::to_string(c)), &mine).ok());
      }
    });
  }
  for (auto& caller : callers) caller.join();
  for (int c = 0; c < 4; ++c) {
    EXPECT_EQ(ParametersOf("m" + std::to_string(c)), ParametersOf("alone"));
  }
}

TEST_F(StepTest, AStepThatWouldNotBeFiniteIsRefusedAndChangesNothing) {
  CreateModel("m", R"({"inputSize":1,"layers":[{"units":1}],"loss":{"meanSquaredError":{}}})");
  const std::string before = ParametersOf("m");
  auto request = Json<v1::StepRequest>(
      R"({"model":"models/m","requestId":"a","batch":{"inputs":{"values":[1e30]},"targets":{"values":[1e30]}}})");
  v1::StepResponse response;
  const auto status = Call(&Stub::Step, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Info(status).reason(), "NOT_FINITE");
  EXPECT_EQ(ParametersOf("m"), before);
}

TEST_F(StepTest, AStepWhoseCallerHasGoneIsNotMade) {
  // The only compute thread is blocked; a step too large to be made inline waits for it.
  server = std::make_unique<TestServer>(base::Limits(), "", 1);
  CreateModel("m", kLargeSpec);
  Notification held, go;
  server->pool->Post(exec::Priority::kInteractive, [&] {
    held.Notify();
    go.WaitForNotification();
  });
  held.WaitForNotification();
  const v1::StepRequest request = LargeStepOn("m");
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  v1::StepResponse response;
  EXPECT_EQ(server->stub->Step(&call, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  // The server may notice it a moment after the client.
  absl::SleepFor(absl::Milliseconds(200));
  go.Notify();
  EXPECT_TRUE(server->context.calls.WaitForNone(absl::Seconds(20)));
  EXPECT_EQ(GetModel("m").step(), 0);
}

}  // namespace
}  // namespace backprop::rpc
