// StepStream: pipelined steps in order, each with its response.
#include "server/rpc/step_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "server/base/limits.h"
#include "server/exec/compute_pool.h"
#include "server/records/keys.h"
#include "server/records/tables.h"
#include "server/store/memory_store.h"
#include "tests/notification.h"
#include "tests/rpc/test_server.h"
#include "tests/session/durable_fixture.h"

namespace backprop::rpc {
namespace {

class StepStreamTest : public ServiceTest {
 protected:
  struct Opened {
    grpc::ClientContext call;
    std::unique_ptr<grpc::ClientReaderWriter<v1::StepStreamRequest, v1::StepStreamResponse>> stream;

    bool Send(const v1::StepRequest& step) {
      v1::StepStreamRequest request;
      *request.mutable_step() = step;
      return stream->Write(request);
    }
  };
  std::unique_ptr<Opened> Open() {
    auto opened = std::make_unique<Opened>();
    opened->call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    opened->stream = server->stub->StepStream(&opened->call);
    return opened;
  }
  static v1::StepRequest StepOn(const std::string& model) {
    auto step = Json<v1::StepRequest>(R"({"batch":)" + std::string(kXorBatch) + "}");
    if (!model.empty()) step.set_model("models/" + model);
    return step;
  }
};

TEST_F(StepStreamTest, EqualsAsManySingleStepsAndAnswersInOrder) {
  CreateModel("streamed", kXorSpec);
  CreateModel("single", kXorSpec);
  constexpr int kSteps = 500;
  const auto opened = Open();
  std::thread sender([&] {
    for (int i = 0; i < kSteps; ++i) EXPECT_TRUE(opened->Send(StepOn(i == 0 ? "streamed" : "")));
    opened->stream->WritesDone();
  });
  v1::StepStreamResponse response;
  v1::StepResponse single;
  int64_t answers = 0;
  while (opened->stream->Read(&response)) {
    ++answers;
    ASSERT_TRUE(Call(&Stub::Step, StepOn("single"), &single).ok());
    EXPECT_EQ(response.sequence(), answers);
    EXPECT_EQ(response.step().SerializeAsString(), single.SerializeAsString());
  }
  sender.join();
  EXPECT_TRUE(opened->stream->Finish().ok());
  EXPECT_EQ(answers, kSteps);
  EXPECT_EQ(ParametersOf("streamed"), ParametersOf("single"));
}

TEST_F(StepStreamTest, ARefusedStepIsAnsweredInItsPlaceAndTheStreamGoesOn) {
  CreateModel("m", kXorSpec);
  CreateModel("other", kXorSpec);
  std::vector<v1::StepRequest> steps(7, StepOn("m"));
  steps[1].mutable_batch()->mutable_inputs()->set_values(0, NAN);
  steps[2].set_model("models/none");
  steps[3].set_expected_step(7);
  steps[4].set_expected_step(1);
  steps[5].set_model("models/other");
  const auto opened = Open();
  for (const auto& step : steps) ASSERT_TRUE(opened->Send(step));
  ASSERT_TRUE(opened->stream->Write(v1::StepStreamRequest()));
  opened->stream->WritesDone();
  std::vector<v1::StepStreamResponse> answers(8);
  for (auto& answer : answers) ASSERT_TRUE(opened->stream->Read(&answer));
  v1::StepStreamResponse more;
  EXPECT_FALSE(opened->stream->Read(&more));
  EXPECT_TRUE(opened->stream->Finish().ok());

  EXPECT_EQ(answers[0].step().step(), 1);
  EXPECT_EQ(answers[1].error().code(), static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  EXPECT_EQ(answers[1].error().message(), "batch.inputs[0][0]: must be finite, got nan");
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(answers[1].error().details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "batch.inputs[0][0]");
  EXPECT_EQ(answers[2].error().code(), static_cast<int>(grpc::StatusCode::NOT_FOUND));
  EXPECT_EQ(answers[3].error().code(), static_cast<int>(grpc::StatusCode::ABORTED));
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(answers[3].error().details(0).UnpackTo(&info));
  EXPECT_EQ(info.metadata().at("current_step"), "1");
  EXPECT_EQ(answers[4].step().step(), 2);
  EXPECT_EQ(answers[5].step().step(), 1) << "of another model";
  EXPECT_EQ(answers[6].step().step(), 3);
  EXPECT_EQ(answers[7].error().message(), "step: is required");
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].sequence(), static_cast<int64_t>(i) + 1);
  }
}

TEST_F(StepStreamTest, RetriesOnAnotherStreamApplyOnce) {
  CreateModel("m", kXorSpec);
  std::string parameters;
  for (int stream = 0; stream < 2; ++stream) {
    const auto opened = Open();
    for (int i = 0; i < 5; ++i) {
      auto step = StepOn("m");
      step.set_request_id("step-" + std::to_string(i));
      ASSERT_TRUE(opened->Send(step));
    }
    opened->stream->WritesDone();
    v1::StepStreamResponse response;
    for (int i = 1; i <= 5; ++i) {
      ASSERT_TRUE(opened->stream->Read(&response));
      EXPECT_EQ(response.step().step(), i);
    }
    EXPECT_TRUE(opened->stream->Finish().ok());
  }
  EXPECT_EQ(GetModel("m").step(), 5);
}

// If a sender does not read responses, the server reads no more than its bound.
TEST_F(StepStreamTest, WhoDoesNotReadIsHeldBack) {
  server = std::make_unique<TestServer>(base::Limits(), "", 1);
  CreateModel("m", kLargeSpec);
  Notification held, go;
  server->pool->Post(exec::Priority::kInteractive, [&] {
    held.Notify();
    go.WaitForNotification();
  });
  held.WaitForNotification();
  const v1::StepRequest step = LargeStepOn("m");
  const auto opened = Open();
  constexpr int kSteps = 2000;  // 64 MB: far more than the transport's windows hold
  std::atomic<int> sent{0};
  std::thread sender([&] {
    for (int i = 0; i < kSteps && opened->Send(step); ++i) ++sent;
    opened->stream->WritesDone();
  });
  // No step is answered while the pool is blocked. The count stops growing long before the end.
  int before = -1;
  while (before != sent) {
    before = sent;
    absl::SleepFor(absl::Milliseconds(300));
  }
  EXPECT_LT(sent, kSteps);
  go.Notify();
  v1::StepStreamResponse response;
  int answers = 0;
  while (opened->stream->Read(&response)) ++answers;
  sender.join();
  EXPECT_TRUE(opened->stream->Finish().ok());
  EXPECT_EQ(answers, kSteps);
  EXPECT_EQ(GetModel("m").step(), kSteps);
}

TEST_F(StepStreamTest, CancellingLeavesWholeStepsAndTheServerGoesOn) {
  CreateModel("m", kXorSpec);
  {
    const auto opened = Open();
    for (int i = 0; i < 50; ++i) opened->Send(StepOn("m"));
    opened->call.TryCancel();
    v1::StepStreamResponse response;
    while (opened->stream->Read(&response)) {
    }
    EXPECT_EQ(opened->stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(server->context.calls.WaitForNone(absl::Seconds(20)));
  const int64_t step = GetModel("m").step();
  EXPECT_LE(step, 50);
  v1::StepResponse response;
  ASSERT_TRUE(Call(&Stub::Step, StepOn("m"), &response).ok());
  EXPECT_EQ(response.step(), step + 1);
}

TEST_F(StepStreamTest, AStoppingServerEndsAnIdleStreamWithUnavailable) {
  CreateModel("m", kXorSpec);
  const auto opened = Open();
  ASSERT_TRUE(opened->Send(StepOn("m")));
  v1::StepStreamResponse response;
  ASSERT_TRUE(opened->stream->Read(&response));
  const absl::Time begin = absl::Now();
  std::thread stopper([&] { server->server->Stop(absl::Seconds(30)); });
  EXPECT_FALSE(opened->stream->Read(&response));
  EXPECT_EQ(opened->stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  stopper.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(15)) << "it does not wait for the grace to pass";
}

TEST_F(StepStreamTest, StepsForAModelThatIsLoadedKeepTheirOrder) {
  store::MemoryStore kept;
  session::HeldStore store(&kept);
  const auto restart = [&] {
    server.reset();
    server = std::make_unique<TestServer>(base::Limits(), "", 2, &store);
  };
  restart();
  CreateModel("m", kXorSpec);
  CreateModel("resident", kXorSpec);
  const std::string key =
      records::UidKey((*server->registry.FindResident("default/m"))->get()->uid());
  restart();
  v1::StepResponse other;
  ASSERT_TRUE(Call(&Stub::Step, StepOn("resident"), &other).ok());
  store.HoldNextRead(records::kStates, key);
  constexpr int kSteps = 20;
  const auto opened = Open();
  for (int i = 0; i < kSteps; ++i) {
    auto step = StepOn(i % 2 == 0 ? "m" : "resident");
    step.set_expected_step(i % 2 == 0 ? i / 2 : 1 + i / 2);
    EXPECT_TRUE(opened->Send(step));
  }
  opened->stream->WritesDone();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the steps arrive
  ASSERT_TRUE(Call(&Stub::Step, StepOn("other"), &other).error_code() ==
              grpc::StatusCode::NOT_FOUND)
      << "other calls are answered meanwhile";
  store.ReleaseReads();
  v1::StepStreamResponse response;
  for (int i = 0; i < kSteps; ++i) {
    ASSERT_TRUE(opened->stream->Read(&response));
    EXPECT_EQ(response.sequence(), i + 1);
    EXPECT_EQ(response.step().step(), i % 2 == 0 ? 1 + i / 2 : 2 + i / 2)
        << response.ShortDebugString();
  }
  EXPECT_TRUE(opened->stream->Finish().ok());
  server.reset();  // before the store
}

}  // namespace
}  // namespace backprop::rpc
