// Train, WatchTraining, StopTraining over the wire.
#include <gtest/gtest.h>

#include <thread>

#include "tests/rpc/test_server.h"

namespace backprop::rpc {
namespace {

class TrainingTest : public ServiceTest {
 protected:
  static v1::TrainRequest RequestFor(const std::string& id, int64_t iterations,
                                     const std::string& more = "") {
    auto request = Json<v1::TrainRequest>(R"({"data":)" + std::string(kXorBatch) + more + "}");
    request.set_model("models/" + id);
    request.mutable_config()->set_iterations(iterations);
    request.mutable_config()->mutable_report_interval()->set_seconds(kNoReportByTime);
    return request;
  }

  // A call that streams, held open.
  struct Stream {
    std::unique_ptr<grpc::ClientContext> context = std::make_unique<grpc::ClientContext>();
    std::unique_ptr<grpc::ClientReader<v1::TrainResponse>> reader;
    v1::TrainResponse response;
    bool Read() { return reader->Read(&response); }
    // Reads to the end; the summary is the last event.
    grpc::Status Finish() {
      while (Read()) {
      }
      return reader->Finish();
    }
  };
  Stream Start(const v1::TrainRequest& request) {
    Stream stream;
    stream.reader = server->stub->Train(stream.context.get(), request);
    return stream;
  }

  grpc::Status Watch(const std::string& json, std::vector<v1::TrainingEvent>* events) {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    const auto reader = server->stub->WatchTraining(&call, Json<v1::WatchTrainingRequest>(json));
    v1::WatchTrainingResponse response;
    while (reader->Read(&response)) events->push_back(response.event());
    return reader->Finish();
  }

  grpc::Status Stop(const std::string& id, v1::StopTrainingResponse* response) {
    v1::StopTrainingRequest request;
    request.set_model("models/" + id);
    return Call(&Stub::StopTraining, request, response);
  }

  void WaitUntilIdle(const std::string& id) {
    while (!GetModel(id).active_run().empty()) std::this_thread::yield();
  }

  static constexpr int64_t kForever = int64_t{1} << 50;
  static constexpr int64_t kNoReportByTime = 3600;  // seconds: reports are counted
};

TEST_F(TrainingTest, EventsComeInOrderFromStartToSummary) {
  CreateModel("m", kXorSpec);
  std::vector<v1::TrainingEvent> events;
  ASSERT_TRUE(Train(RequestFor("m", 1000), &events).ok());
  ASSERT_EQ(events.size(), 103U) << "start, first and every tenth iteration, summary";
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].run(), "models/m/runs/1");
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i) + 1);
    EXPECT_EQ(events[i].dropped(), 0);
  }
  EXPECT_EQ(events[0].started().total_iterations(), 1000);
  EXPECT_EQ(events[0].started().rows(), 4);
  EXPECT_EQ(events[1].progress().iteration(), 1);
  EXPECT_EQ(events[2].progress().iteration(), 10);
  EXPECT_EQ(events[101].progress().iteration(), 1000);
  EXPECT_EQ(events[101].progress().eta().nanos(), 0);
  const auto& summary = events[102].summary();
  EXPECT_EQ(summary.stop_reason(), v1::STOP_REASON_COMPLETED);
  EXPECT_EQ(summary.iterations(), 1000);
  EXPECT_EQ(summary.step(), 1000);
  EXPECT_EQ(summary.metrics().accuracy(), 1);
  EXPECT_EQ(GetModel("m").step(), 1000);
}

TEST_F(TrainingTest, EpochsWithMiniBatchesAreReproducible) {
  std::vector<std::string> parameters;
  for (const char* id : {"a", "b"}) {
    CreateModel(id, kXorSpec);
    auto request = RequestFor(id, 1);
    request.mutable_config()->set_epochs(50);
    request.mutable_config()->set_batch_size(3);
    std::vector<v1::TrainingEvent> events;
    ASSERT_TRUE(Train(request, &events).ok());
    EXPECT_EQ(events[0].started().iterations_per_epoch(), 2);
    EXPECT_EQ(events.back().summary().iterations(), 100);
    EXPECT_EQ(events[events.size() - 2].progress().epoch(), 50);
    parameters.push_back(ParametersOf(id));
  }
  EXPECT_EQ(parameters[0], parameters[1]);
  CreateModel("ordered", kXorSpec);
  auto request = RequestFor("ordered", 100);
  request.mutable_config()->set_batch_size(3);
  request.mutable_config()->set_shuffle(false);
  std::vector<v1::TrainingEvent> events;
  ASSERT_TRUE(Train(request, &events).ok());
  EXPECT_NE(ParametersOf("ordered"), parameters[0]);
}

TEST_F(TrainingTest, ABatchLargerThanTheRowsIsAllOfThem) {
  CreateModel("m", kXorSpec);
  for (const auto& [more, expected] :
       {std::pair<const char*, int64_t>{"", 4}, {R"(,"validationSplit":0.25)", 3}}) {
    auto request =
        Json<v1::TrainRequest>(R"({"model":"models/m","data":)" + std::string(kXorBatch) +
                               R"(,"config":{"epochs":2,"batchSize":1000)" + more + "}}");
    std::vector<v1::TrainingEvent> events;
    ASSERT_TRUE(Train(request, &events).ok());
    EXPECT_EQ(events[0].started().batch_size(), expected);
    EXPECT_EQ(events[0].started().iterations_per_epoch(), 1);
    EXPECT_EQ(events.back().summary().iterations(), 2);
  }
}

TEST_F(TrainingTest, AnUnfinishedEpochIsContinuedWhenAsked) {
  CreateModel("whole", kXorSpec);
  CreateModel("cut", kXorSpec);
  auto request = RequestFor("whole", 12);
  request.mutable_config()->set_batch_size(1);
  std::vector<v1::TrainingEvent> events;
  ASSERT_TRUE(Train(request, &events).ok());
  EXPECT_EQ(events[0].started().resumed_batches(), 0);
  request.set_model("models/cut");
  request.mutable_config()->set_iterations(5);
  ASSERT_TRUE(Train(request, &events).ok());
  events.clear();
  request.mutable_config()->set_epochs(2);
  request.mutable_config()->set_continue_epoch(true);
  ASSERT_TRUE(Train(request, &events).ok());
  EXPECT_EQ(events[0].started().resumed_batches(), 1);
  EXPECT_EQ(events[0].started().total_iterations(), 7);
  EXPECT_EQ(events[0].started().batch_size(), 1);
  EXPECT_EQ(events.back().summary().step(), 12);
  EXPECT_EQ(ParametersOf("cut"), ParametersOf("whole"));
}

// One report per second by default: the first hundredth of this run takes hours.
TEST_F(TrainingTest, ARunReportsByTimeByDefault) {
  CreateModel("m", kXorSpec);
  auto request = RequestFor("m", kForever);
  request.mutable_config()->clear_report_interval();
  auto stream = Start(request);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream.Read());
  EXPECT_GT(stream.response.event().progress().iteration(), 1);
  EXPECT_EQ(stream.response.event().sequence(), 3);
  stream.context->TryCancel();
  stream.Finish();
}

TEST_F(TrainingTest, CancellingTheCallStopsTheRunAndKeepsWhatItLearned) {
  CreateModel("m", kXorSpec);
  auto stream = Start(RequestFor("m", kForever));
  ASSERT_TRUE(stream.Read());
  ASSERT_TRUE(stream.Read());
  stream.context->TryCancel();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  WaitUntilIdle("m");
  EXPECT_GT(GetModel("m").step(), 0);
  std::vector<v1::TrainingEvent> events;
  EXPECT_TRUE(Watch(R"({"model":"models/m"})", &events).ok());
  EXPECT_EQ(events.back().summary().stop_reason(), v1::STOP_REASON_CANCELLED);
}

TEST_F(TrainingTest, ADeadlineStopsTheRun) {
  CreateModel("m", kXorSpec);
  Stream stream;
  stream.context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  stream.reader = server->stub->Train(stream.context.get(), RequestFor("m", kForever));
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  WaitUntilIdle("m");
  EXPECT_GT(GetModel("m").step(), 0);
}

TEST_F(TrainingTest, ADetachedRunOutlivesItsCallerAndIsWatchedAndStopped) {
  CreateModel("m", kXorSpec);
  auto stream = Start(RequestFor("m", kForever, R"(,"detach":true)"));
  ASSERT_TRUE(stream.Read());
  stream.context->TryCancel();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(GetModel("m").active_run(), "models/m/runs/1");
  // A second call on the model is rejected and names the run.
  std::vector<v1::TrainingEvent> refused;
  const auto status = Train(RequestFor("m", 1), &refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Info(status).metadata().at("run"), "models/m/runs/1");
  // Two watchers follow it to its end.
  std::vector<v1::TrainingEvent> first, second;
  std::thread watcher([&] { EXPECT_TRUE(Watch(R"({"model":"models/m"})", &first).ok()); });
  std::thread other([&] {
    EXPECT_TRUE(
        Watch(R"({"model":"models/m","run":"models/m/runs/1","fromSequence":2})", &second).ok());
  });
  v1::StopTrainingResponse stopped;
  ASSERT_TRUE(Stop("m", &stopped).ok());
  EXPECT_EQ(stopped.run(), "models/m/runs/1");
  EXPECT_EQ(stopped.summary().stop_reason(), v1::STOP_REASON_STOPPED);
  EXPECT_EQ(stopped.summary().step(), GetModel("m").step());
  watcher.join();
  other.join();
  EXPECT_EQ(first.front().sequence(), 1);
  EXPECT_EQ(second.front().sequence(), 2);
  EXPECT_EQ(first.back().summary().SerializeAsString(), stopped.summary().SerializeAsString());
  EXPECT_EQ(second.back().sequence(), first.back().sequence());
  std::vector<v1::TrainingEvent> late;
  EXPECT_TRUE(Watch(R"({"model":"models/m","fromSequence":1000000000000})", &late).ok());
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0].SerializeAsString(), first.back().SerializeAsString()) << "the last event";
}

// A watcher that waits for an event that an active run never reaches gets the run's last event.
TEST_F(TrainingTest, AWatcherOfWhatNeverComesGetsTheLastEvent) {
  CreateModel("m", kXorSpec);
  for (int round = 1; round <= 20; ++round) {
    auto stream = Start(RequestFor("m", kForever));
    ASSERT_TRUE(stream.Read());
    std::vector<v1::TrainingEvent> late;
    std::thread watcher([&] {
      EXPECT_TRUE(Watch(R"({"model":"models/m","fromSequence":1000000000000})", &late).ok());
    });
    // Usually the watcher has started by then; otherwise it sees a run that has ended.
    for (int i = 0; i < 50; ++i) GetModel("m");
    v1::StopTrainingResponse stopped;
    ASSERT_TRUE(Stop("m", &stopped).ok());
    watcher.join();
    ASSERT_EQ(late.size(), 1U);
    EXPECT_EQ(late[0].run(), "models/m/runs/" + std::to_string(round));
    EXPECT_EQ(late[0].summary().SerializeAsString(), stopped.summary().SerializeAsString());
    EXPECT_TRUE(stream.Finish().ok());
  }
}

// A caller that cancels Train and immediately calls again may arrive before the run has ended; the
// call must not be rejected.
TEST_F(TrainingTest, WhatFollowsACancelledTrainAtOnceIsNotRefused) {
  CreateModel("m", kXorSpec);
  v1::CreateCheckpointRequest keep;
  keep.set_model("models/m");
  keep.set_checkpoint_id("c");
  v1::CreateCheckpointResponse kept;
  ASSERT_TRUE(Call(&Stub::CreateCheckpoint, keep, &kept).ok());
  const auto step =
      Json<v1::StepRequest>(R"({"model":"models/m","batch":)" + std::string(kXorBatch) + "}");
  for (int round = 0; round < 100; ++round) {
    auto stream = Start(RequestFor("m", kForever));
    ASSERT_TRUE(stream.Read());
    stream.context->TryCancel();
    grpc::Status status;
    if (round % 4 == 0) {
      std::vector<v1::TrainingEvent> events;
      status = Train(RequestFor("m", 1), &events);
    } else if (round % 4 == 1) {
      v1::StepResponse response;
      status = Call(&Stub::Step, step, &response);
    } else if (round % 4 == 2) {
      v1::RestoreCheckpointRequest request;
      request.set_name("models/m/checkpoints/c");
      v1::RestoreCheckpointResponse response;
      status = Call(&Stub::RestoreCheckpoint, request, &response);
    } else {
      v1::SetParametersRequest request;
      request.set_model("models/m");
      request.mutable_parameters()->set_step(7);
      v1::SetParametersResponse response;
      status = Call(&Stub::SetParameters, request, &response);
    }
    ASSERT_TRUE(status.ok()) << "round " << round << ": " << status.error_message();
    EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

// The same during a StopTraining that is not answered yet; and a model can be deleted.
TEST_F(TrainingTest, WhatFollowsAStopAtOnceIsNotRefused) {
  for (int round = 0; round < 50; ++round) {
    const std::string id = "m" + std::to_string(round);
    CreateModel(id, kXorSpec);
    auto stream = Start(RequestFor(id, kForever));
    ASSERT_TRUE(stream.Read());
    v1::StopTrainingResponse stopped;
    std::thread stopper([&] { EXPECT_TRUE(Stop(id, &stopped).ok()); });
    std::vector<v1::TrainingEvent> events;
    const grpc::Status status = Train(RequestFor(id, 1), &events);
    stopper.join();
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(stopped.run(), "models/" + id + "/runs/1");
    EXPECT_EQ(events.front().run(), "models/" + id + "/runs/2");
    EXPECT_TRUE(stream.Finish().ok());
    auto last = Start(RequestFor(id, kForever));
    ASSERT_TRUE(last.Read());
    last.context->TryCancel();
    v1::DeleteModelRequest request;
    request.set_name("models/" + id);
    v1::DeleteModelResponse response;
    EXPECT_TRUE(Call(&Stub::DeleteModel, request, &response).ok());
    last.Finish();
  }
}

// Steps that wait for the end of a run are made in order of arrival.
TEST_F(TrainingTest, StepsThatWaitForACancelledRunKeepTheirOrder) {
  CreateModel("m", kXorSpec);
  auto step = Json<v1::StepRequest>(R"({"batch":)" + std::string(kXorBatch) + "}");
  for (int round = 0; round < 20; ++round) {
    auto stream = Start(RequestFor("m", kForever));
    ASSERT_TRUE(stream.Read());
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    const auto steps = server->stub->StepStream(&call);
    stream.context->TryCancel();
    for (int i = 0; i < 50; ++i) {
      step.set_model("models/m");
      v1::StepStreamRequest request;
      *request.mutable_step() = step;
      ASSERT_TRUE(steps->Write(request));
    }
    steps->WritesDone();
    int64_t before = 0;
    v1::StepStreamResponse response;
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(steps->Read(&response));
      ASSERT_TRUE(response.has_step()) << response.error().message();
      if (i > 0) EXPECT_EQ(response.step().step(), before + 1);
      before = response.step().step();
    }
    EXPECT_TRUE(steps->Finish().ok());
    stream.Finish();
  }
}

// A run that continues is still a reason to reject: at once if no call owns it, otherwise after a
// moment.
TEST_F(TrainingTest, ARunThatGoesOnIsStillInTheWay) {
  CreateModel("m", kXorSpec);
  for (const bool detach : {true, false}) {
    auto request = RequestFor("m", kForever);
    request.set_detach(detach);
    auto stream = Start(request);
    ASSERT_TRUE(stream.Read());
    const absl::Time begin = absl::Now();
    std::vector<v1::TrainingEvent> events;
    const grpc::Status status = Train(RequestFor("m", 1), &events);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(Info(status).reason(), "RUN_UNDER_WAY");
    if (!detach) EXPECT_GE(absl::Now() - begin, absl::Milliseconds(499));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
    v1::StopTrainingResponse stopped;
    ASSERT_TRUE(Stop("m", &stopped).ok());
    EXPECT_TRUE(stream.Finish().ok());
  }
}

TEST_F(TrainingTest, ARepeatedTrainAttachesAndStreamsFromTheBeginning) {
  CreateModel("m", kXorSpec);
  const auto request = RequestFor("m", 500, R"(,"requestId":"t")");
  std::vector<v1::TrainingEvent> first, again;
  ASSERT_TRUE(Train(request, &first).ok());
  ASSERT_TRUE(Train(request, &again).ok());
  EXPECT_EQ(again.size(), first.size());
  EXPECT_EQ(again.back().SerializeAsString(), first.back().SerializeAsString());
  EXPECT_EQ(GetModel("m").step(), 500);
}

TEST_F(TrainingTest, WaitQueuesBehindTheRun) {
  CreateModel("m", kXorSpec);
  auto running = Start(RequestFor("m", kForever));
  ASSERT_TRUE(running.Read());
  auto waiting = Start(RequestFor("m", 10, R"(,"wait":true)"));
  auto given_up = Start(RequestFor("m", 10, R"(,"wait":true)"));
  given_up.context->TryCancel();
  EXPECT_EQ(given_up.Finish().error_code(), grpc::StatusCode::CANCELLED);
  running.context->TryCancel();
  EXPECT_TRUE(waiting.Finish().ok());
  EXPECT_EQ(waiting.response.event().summary().iterations(), 10);
  running.Finish();
}

TEST_F(TrainingTest, DeletingTheModelEndsTheStreamWithAReason) {
  CreateModel("m", kXorSpec);
  auto stream = Start(RequestFor("m", kForever));
  ASSERT_TRUE(stream.Read());
  v1::DeleteModelResponse deleted;
  ASSERT_TRUE(
      Call(&Stub::DeleteModel, Json<v1::DeleteModelRequest>(R"({"name":"models/m"})"), &deleted)
          .ok());
  const auto status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Info(status).reason(), "MODEL_DELETED");
  EXPECT_EQ(stream.response.event().summary().stop_reason(), v1::STOP_REASON_MODEL_DELETED);
}

TEST_F(TrainingTest, StoppingTheServerEndsStreamsWithUnavailable) {
  CreateModel("m", kXorSpec);
  auto stream = Start(RequestFor("m", kForever, R"(,"detach":true)"));
  ASSERT_TRUE(stream.Read());
  std::thread stopper([&] { EXPECT_TRUE(server->server->Stop(absl::Seconds(20))); });
  const auto status = stream.Finish();
  stopper.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(stream.response.event().summary().stop_reason(), v1::STOP_REASON_SERVER_SHUTDOWN);
}

// The reader sleeps while the run makes hundreds of thousands of reports: it gets the first and the
// last ones, and the number of dropped ones.
TEST_F(TrainingTest, ASlowReaderMissesReportsInTheMiddleOnly) {
  CreateModel("m", kXorSpec);
  auto request = RequestFor("m", 100'000);
  request.mutable_config()->set_report_every(1);
  auto stream = Start(request);
  ASSERT_TRUE(stream.Read());
  EXPECT_TRUE(stream.response.event().has_started());
  ASSERT_TRUE(stream.Read());
  EXPECT_EQ(stream.response.event().progress().iteration(), 1);
  WaitUntilIdle("m");
  int64_t received = 2, dropped = 0, last = 2;
  while (stream.Read()) {
    const auto& event = stream.response.event();
    EXPECT_EQ(event.sequence(), last + 1 + event.dropped());
    last = event.sequence();
    dropped += event.dropped();
    ++received;
  }
  EXPECT_TRUE(stream.reader->Finish().ok());
  EXPECT_TRUE(stream.response.event().has_summary());
  EXPECT_GT(dropped, 0);
  EXPECT_EQ(received + dropped, 100'002);
}

TEST_F(TrainingTest, ADivergingRunSaysSoAndKeepsFiniteParameters) {
  CreateModel("m",
              R"({"inputSize":2,"layers":[{"units":8},{"units":2}],"loss":{"meanSquaredError":{}},
                       "optimizer":{"sgd":{"learningRate":1000}}})");
  auto request = Json<v1::TrainRequest>(R"({"model":"models/m","config":{"iterations":1000},
      "data":{"inputs":{"values":[1,2,3,4]},"targets":{"values":[1,2,3,4]}}})");
  std::vector<v1::TrainingEvent> events;
  ASSERT_TRUE(Train(request, &events).ok());
  const auto& summary = events.back().summary();
  EXPECT_EQ(summary.stop_reason(), v1::STOP_REASON_DIVERGED);
  EXPECT_NE(summary.message().find("not finite at iteration"), std::string::npos);
  v1::GetParametersResponse parameters;
  ASSERT_TRUE(Call(&Stub::GetParameters, Json<v1::GetParametersRequest>(R"({"model":"models/m"})"),
                   &parameters)
                  .ok());
  for (const auto& tensor : parameters.parameters().tensors()) {
    for (double v : tensor.tensor().values()) EXPECT_TRUE(std::isfinite(v));
  }
  EXPECT_EQ(parameters.parameters().step(), summary.step());
}

TEST_F(TrainingTest, SeveralRunsGoSideBySide) {
  std::vector<Stream> streams;
  for (int i = 0; i < 6; ++i) {
    const std::string id = "m" + std::to_string(i);
    CreateModel(id, kXorSpec);
    streams.push_back(Start(RequestFor(id, kForever)));
  }
  for (auto& stream : streams) {
    ASSERT_TRUE(stream.Read());
    ASSERT_TRUE(stream.Read()) << "every run has made a step while all the others go on";
  }
  for (auto& stream : streams) stream.context->TryCancel();
  for (auto& stream : streams) stream.Finish();
}

}  // namespace
}  // namespace backprop::rpc
