// What the client does when a server fails, asks it to wait, or is gone: against a gRPC server
// whose responses a test scripts, because a real one cannot be made to give them in this order.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backprop/client.h"
#include "backprop/datasets.h"
#include "backprop/v1/training_service.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/client/backprop/cutting_proxy.h"
#include "tests/rpc/test_server.h"

namespace backprop {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

grpc::Status WithRetryInfo(grpc::StatusCode code, milliseconds delay) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay.count() % 1000 * 1'000'000));
  retry.mutable_retry_delay()->set_seconds(delay.count() / 1000);
  google::rpc::Status details;
  details.set_code(code);
  details.add_details()->PackFrom(retry);
  return grpc::Status(code, "wait", details.SerializeAsString());
}

grpc::Status WithReason(grpc::StatusCode code, const std::string& reason, const std::string& key,
                        const std::string& value) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  (*info.mutable_metadata())[key] = value;
  google::rpc::Status details;
  details.set_code(code);
  details.add_details()->PackFrom(info);
  return grpc::Status(code, reason, details.SerializeAsString());
}

const grpc::Status kGone(grpc::StatusCode::UNAVAILABLE, "gone");

// A server that gives these responses, the last one again and again.
class Scripted final : public v1::TrainingService::Service {
 public:
  // What a stream of events delivers, and how it ends.
  struct Stream {
    std::vector<int64_t> sequences;
    bool summary = false;
    grpc::Status status;
  };

  Scripted() {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server_ = builder.BuildAndStart();
    address = "127.0.0.1:" + std::to_string(port);
  }

  std::string address;
  std::vector<grpc::Status> statuses{grpc::Status::OK};
  std::vector<Stream> streams;
  bool hang = false;
  std::vector<steady_clock::time_point> times;
  std::vector<v1::StepRequest> steps;
  std::vector<v1::TrainRequest> trains;
  std::vector<v1::WatchTrainingRequest> watches;
  std::vector<std::string> uploads;  // "request_id first_row"

 private:
  grpc::Status Next() {
    const size_t number = times.size();
    times.push_back(steady_clock::now());
    return statuses[std::min(number, statuses.size() - 1)];
  }
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest*,
                        v1::GetModelResponse*) override {
    while (hang && !context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return Next();
  }
  grpc::Status Step(grpc::ServerContext*, const v1::StepRequest* request,
                    v1::StepResponse*) override {
    steps.push_back(*request);
    return Next();
  }
  template <class Response>
  grpc::Status Play(size_t number, grpc::ServerWriter<Response>* writer) {
    const Stream& stream = streams[std::min(number, streams.size() - 1)];
    for (const int64_t sequence : stream.sequences) {
      Response response;
      response.mutable_event()->set_run("models/m/runs/1");
      response.mutable_event()->set_sequence(sequence);
      response.mutable_event()->mutable_progress();
      if (stream.summary && sequence == stream.sequences.back()) {
        response.mutable_event()->mutable_summary()->set_stop_reason(v1::STOP_REASON_COMPLETED);
      }
      writer->Write(response);
    }
    return stream.status;
  }
  grpc::Status Train(grpc::ServerContext*, const v1::TrainRequest* request,
                     grpc::ServerWriter<v1::TrainResponse>* writer) override {
    trains.push_back(*request);
    return Play(trains.size() - 1, writer);
  }
  grpc::Status WatchTraining(grpc::ServerContext*, const v1::WatchTrainingRequest* request,
                             grpc::ServerWriter<v1::WatchTrainingResponse>* writer) override {
    watches.push_back(*request);
    return Play(watches.size() - 1, writer);
  }
  grpc::Status GetDataset(grpc::ServerContext*, const v1::GetDatasetRequest*,
                          v1::GetDatasetResponse* response) override {
    response->mutable_dataset()->set_rows(50);
    return grpc::Status::OK;
  }
  grpc::Status UploadDataset(grpc::ServerContext*,
                             grpc::ServerReader<v1::UploadDatasetRequest>* reader,
                             v1::UploadDatasetResponse*) override {
    v1::UploadDatasetRequest request;
    std::string seen;
    while (reader->Read(&request)) {
      if (request.has_header()) seen = request.header().request_id();
      if (request.has_chunk()) seen += " " + std::to_string(request.chunk().first_row());
    }
    uploads.push_back(seen);
    return Next();
  }

  std::unique_ptr<grpc::Server> server_;
};

RetryOptions Quick(int attempts) {
  return {.max_attempts = attempts, .first_pause = milliseconds(1), .last_pause = milliseconds(1)};
}

milliseconds Since(steady_clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
}

TEST(RetriesTest, AServerThatSaysWhenToRetryIsGivenThatTime) {
  for (const auto code : {grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::UNAVAILABLE}) {
    Scripted server;
    server.statuses = {WithRetryInfo(code, milliseconds(300)), grpc::Status::OK};
    Client client(server.address, {.retry = Quick(3)});
    EXPECT_TRUE(client.GetModel("m").ok());
    ASSERT_THAT(server.times, SizeIs(2));
    EXPECT_GE(server.times[1] - server.times[0], milliseconds(300));
  }
}

TEST(RetriesTest, NothingElseIsRetried) {
  for (int code = 1; code <= 16; ++code) {
    if (code == grpc::StatusCode::UNAVAILABLE) continue;
    if (code == grpc::StatusCode::CANCELLED) continue;  // a server that stops: retried
    Scripted server;
    server.statuses = {grpc::Status(static_cast<grpc::StatusCode>(code), "no")};
    Client client(server.address, {.retry = Quick(3)});
    EXPECT_EQ(client.GetModel("m").status().code, static_cast<StatusCode>(code));
    EXPECT_THAT(server.times, SizeIs(1)) << code;
  }
}

TEST(RetriesTest, TheDelayIsPartOfTheError) {
  Scripted server;
  server.statuses = {WithRetryInfo(grpc::StatusCode::RESOURCE_EXHAUSTED, milliseconds(1500))};
  Client client(server.address, {.retry = Quick(1)});
  EXPECT_EQ(client.GetModel("m").status().retry_delay, milliseconds(1500));
  server.statuses = {kGone};
  EXPECT_EQ(client.GetModel("m").status().retry_delay, std::nullopt);
}

TEST(RetriesTest, AllAttemptsHaveOneRequestId) {
  Scripted server;
  server.statuses = {kGone, kGone, grpc::Status::OK};
  Client client(server.address, {.retry = Quick(5)});
  ASSERT_TRUE(client.Step("m", *MakeDataset("xor")).ok());
  ASSERT_THAT(server.steps, SizeIs(3));
  const std::string id = server.steps[0].request_id();
  EXPECT_THAT(id, testing::MatchesRegex("[0-9a-f]{32}"));
  for (const auto& step : server.steps) EXPECT_EQ(step.request_id(), id);
  ASSERT_TRUE(client.Step("m", *MakeDataset("xor")).ok());
  EXPECT_NE(server.steps.back().request_id(), id);
}

// The whole pause is random: some of thirty are in its first half.
TEST(RetriesTest, PausesAreRandom) {
  Scripted server;
  server.statuses = {kGone};
  Client client(server.address, {.retry = {.max_attempts = 30,
                                           .first_pause = milliseconds(60),
                                           .last_pause = milliseconds(60)}});
  EXPECT_FALSE(client.GetModel("m").ok());
  ASSERT_THAT(server.times, SizeIs(30));
  int short_ones = 0;
  for (size_t i = 1; i < server.times.size(); ++i) {
    short_ones += server.times[i] - server.times[i - 1] < milliseconds(28) ? 1 : 0;
  }
  EXPECT_GT(short_ones, 0);
  EXPECT_LT(short_ones, 29);
}

TEST(RetriesTest, CancellationEndsAPause) {
  Scripted server;
  server.statuses = {WithRetryInfo(grpc::StatusCode::UNAVAILABLE, milliseconds(50'000))};
  Client client(server.address, {.unary_timeout = std::nullopt});
  Cancellation cancellation;
  std::thread canceller([&] {
    std::this_thread::sleep_for(milliseconds(100));
    cancellation.Cancel();
  });
  const auto start = steady_clock::now();
  EXPECT_EQ(client.GetModel("m", {.cancellation = cancellation}).status().code,
            StatusCode::kCancelled);
  EXPECT_LT(Since(start), milliseconds(20'000));
  canceller.join();
}

TEST(RetriesTest, CallsHaveADefaultDeadlineAndStreamsHaveNone) {
  EXPECT_EQ(ClientOptions().unary_timeout, std::chrono::seconds(60));
  Scripted server;
  server.hang = true;
  Client client(server.address, {.unary_timeout = milliseconds(200)});
  auto start = steady_clock::now();
  EXPECT_EQ(client.GetModel("m").status().code, StatusCode::kDeadlineExceeded);
  EXPECT_GE(Since(start), milliseconds(150));
  start = steady_clock::now();
  EXPECT_EQ(client.GetModel("m", {.timeout = milliseconds(600)}).status().code,
            StatusCode::kDeadlineExceeded);
  EXPECT_GE(Since(start), milliseconds(550));
  // The deadline bounds the attempts as a whole.
  Client nowhere("unix:/nonexistent/server.sock",
                 {.retry = {.max_attempts = 1'000'000}, .unary_timeout = milliseconds(300)});
  start = steady_clock::now();
  EXPECT_FALSE(nowhere.GetModel("m").ok());
  EXPECT_LT(Since(start), milliseconds(20'000));
}

TEST(RetriesTest, TrainAttachesAgainAndDeliversEachEventOnce) {
  Scripted server;
  // Each stream makes progress, so that three attempts are enough for four breaks.
  server.streams = {{{1, 2}, false, kGone},
                    {{1, 2, 3}, false, kGone},
                    {{1, 3, 4}, false, kGone},
                    {{1, 5}, false, grpc::Status(grpc::StatusCode::CANCELLED, "the server stops")},
                    {{1, 5, 6}, true, grpc::Status::OK}};
  Client client(server.address, {.retry = Quick(2)});
  std::vector<int64_t> sequences;
  const auto summary =
      client.Train("m", *MakeDataset("xor"), {.iterations = 5}, [&](const TrainingEvent& event) {
        sequences.push_back(event.sequence);
        return true;
      });
  ASSERT_TRUE(summary.ok()) << summary.status().ToString();
  EXPECT_THAT(sequences, ElementsAre(1, 2, 3, 4, 5, 6));
  ASSERT_THAT(server.trains, SizeIs(5));
  for (const auto& train : server.trains) {
    EXPECT_EQ(train.SerializeAsString(), server.trains[0].SerializeAsString());
  }
  EXPECT_THAT(server.trains[0].request_id(), SizeIs(32));
}

TEST(RetriesTest, StreamsWithoutProgressEndTheRetries) {
  Scripted server;
  server.streams = {{{1, 2}, false, kGone}, {{1, 2}, false, kGone}};
  Client client(server.address, {.retry = Quick(3)});
  EXPECT_EQ(client.Train("m", *MakeDataset("xor"), {.iterations = 5}).status().code,
            StatusCode::kUnavailable);
  EXPECT_THAT(server.trains, SizeIs(4)) << "one, and three after the last new event";
}

// A model may have a newer run when the watcher comes back.
TEST(RetriesTest, AWatchGoesOnBehindItsLastEventOfItsRun) {
  Scripted server;
  server.streams = {{{4, 5}, false, kGone}, {{6}, true, grpc::Status::OK}};
  Client client(server.address, {.retry = Quick(2)});
  const auto summary = client.WatchTraining("m", {.from_sequence = 4});
  ASSERT_TRUE(summary.ok()) << summary.status().ToString();
  ASSERT_THAT(server.watches, SizeIs(2));
  EXPECT_EQ(server.watches[0].run(), "");
  EXPECT_EQ(server.watches[0].from_sequence(), 4);
  EXPECT_EQ(server.watches[1].run(), "models/m/runs/1");
  EXPECT_EQ(server.watches[1].from_sequence(), 6);
}

// The server lost rows after it said how many it has, because it was killed.
TEST(RetriesTest, AnUploadGoesBackToRowsThatTheServerLost) {
  Scripted server;
  server.statuses = {
      kGone,
      WithReason(grpc::StatusCode::FAILED_PRECONDITION, "ROWS_MISSING", "expected_row", "20"),
      grpc::Status::OK};
  Client client(server.address, {.retry = Quick(5)});
  const Batch data = Rows(*MakeDataset("xor"), 0, 100);
  ASSERT_TRUE(client.UploadDataset("d", data, {}, {.request_id = "r"}).ok());
  EXPECT_THAT(server.uploads, ElementsAre("r 0", "r 50", "r 20"));
}

TEST(ChecksTest, WrongRequestsAreNotSent) {
  Client client("unix:/nonexistent/server.sock", {.retry = {.max_attempts = 1'000'000}});
  const auto field_of = [](const Status& status) {
    EXPECT_EQ(status.code, StatusCode::kInvalidArgument) << status.ToString();
    return status.field_violations.empty() ? "" : status.field_violations[0].field;
  };
  const Tensor lame(2, 2, DataType::kFloat32, std::string(8, '\0'));
  Batch short_labels = Rows(*MakeDataset("xor"), 0, 3);
  short_labels.labels.pop_back();
  Batch lame_inputs;
  lame_inputs.inputs = lame;
  lame_inputs.labels = {0, 1};
  Parameters parameters;
  parameters.tensors = {{"layers[0].bias", lame, false}};
  EXPECT_EQ(field_of(client.GetModel("").status()), "name");
  EXPECT_EQ(field_of(client.DeleteModel("models/")), "name");
  EXPECT_EQ(field_of(client.Predict("", Tensor()).status()), "model");
  EXPECT_EQ(field_of(client.Predict("m", lame).status()), "inputs.raw");
  EXPECT_THAT(client.Predict("m", lame).status().message,
              HasSubstr("expected 16 bytes for shape [2, 2] of FLOAT32, got 8"));
  EXPECT_EQ(field_of(client.Step("m", lame_inputs).status()), "batch.inputs.raw");
  EXPECT_EQ(field_of(client.Step("m", short_labels).status()), "batch.labels.shape[0]");
  EXPECT_EQ(field_of(client.Evaluate("m", short_labels).status()), "data.labels.shape[0]");
  EXPECT_EQ(field_of(client.Train("m", lame_inputs, {.iterations = 1}).status()),
            "data.inputs.raw");
  EXPECT_EQ(field_of(client.SetParameters("m", parameters).status()),
            "parameters.tensors[0].tensor.raw");
  EXPECT_EQ(field_of(client.Steps("m", {lame_inputs}).status()), "batch.inputs.raw");
  EXPECT_EQ(field_of(client.Steps("m", {}, {.in_flight = 65}).status()), "in_flight");
  EXPECT_EQ(field_of(client.Steps("", std::vector<Batch>{}).status()), "model");
  EXPECT_EQ(field_of(client.UploadDataset("", short_labels).status()), "dataset_id");
  EXPECT_EQ(field_of(client.UploadDataset("d", short_labels).status()),
            "chunk.rows.labels.shape[0]");
  EXPECT_EQ(field_of(client.CreateCheckpoint("m", "").status()), "checkpoint_id");
  EXPECT_EQ(field_of(client.ImportModel(FileSource("/nonexistent")).status()), "source");
}

ModelSpec StepsSpec() {
  ModelSpec spec;
  spec.input_size = 2;
  spec.layers = {{8}, {2}};
  spec.optimizer = Sgd{.learning_rate = 0.1};
  return spec;
}

std::vector<Batch> Batches(int count) {
  const Batch data = *MakeDataset("xor");
  std::vector<Batch> batches;
  for (int i = 0; i < count; ++i) batches.push_back(Rows(data, 20 * (i % 10), 20));
  return batches;
}

std::vector<Tensor> TensorsOf(Client* client, const std::string& model) {
  std::vector<Tensor> tensors;
  const auto parameters = client->GetParameters(model);
  if (!parameters.ok()) return tensors;
  for (const NamedTensor& tensor : parameters->tensors) tensors.push_back(tensor.tensor);
  return tensors;
}

class StepsTest : public testing::Test {
 protected:
  StepsTest() {
    for (const char* id : {"piped", "single"}) {
      EXPECT_TRUE(direct.CreateModel(StepsSpec(), {.model_id = id}).ok());
    }
  }
  const std::string path = testing::TempDir() + "bp_client_steps.sock";
  const std::string behind = testing::TempDir() + "bp_client_steps_behind.sock";
  rpc::TestServer server{{}, behind};
  CuttingProxy proxy{path, behind};
  Client direct{"unix:" + behind};
  Client client{"unix:" + path, {.retry = Quick(50)}};
};

TEST_F(StepsTest, AreMadeOnceEachThoughTheConnectionBreaks) {
  const std::vector<Batch> batches = Batches(300);
  size_t next = 0;
  std::vector<int64_t> steps;
  const Status status = client.Steps(
      "piped",
      [&]() -> std::optional<Batch> {
        if (next == batches.size()) return std::nullopt;
        if (next % 50 == 25) proxy.Cut();
        return batches[next++];
      },
      [&](const Result<StepResult>& result) {
        EXPECT_TRUE(result.ok());
        steps.push_back(result.ok() ? result->step : 0);
        return true;
      });
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::vector<int64_t> wanted(300);
  for (size_t i = 0; i < 300; ++i) {
    wanted[i] = static_cast<int64_t>(i) + 1;
    ASSERT_TRUE(direct.Step("single", batches[i]).ok());
  }
  EXPECT_EQ(steps, wanted);
  EXPECT_THAT(TensorsOf(&direct, "piped"), SizeIs(4));
  EXPECT_EQ(TensorsOf(&direct, "piped"), TensorsOf(&direct, "single"));
}

TEST_F(StepsTest, ARejectedStepIsAnError) {
  std::vector<Batch> batches = Batches(5);
  batches[2].labels.assign(20, 7);
  const auto results = client.Steps("piped", batches, {.in_flight = 1});
  EXPECT_EQ(results.status().code, StatusCode::kInvalidArgument);
  EXPECT_EQ(direct.GetModel("piped")->step, 2);
  int rejected = 0;
  size_t next = 0;
  EXPECT_TRUE(client
                  .Steps(
                      "piped",
                      [&]() -> std::optional<Batch> {
                        if (next == 5) return std::nullopt;
                        return batches[next++];
                      },
                      [&](const Result<StepResult>& result) {
                        rejected += result.ok() ? 0 : 1;
                        return true;
                      })
                  .ok());
  EXPECT_EQ(rejected, 1);
  EXPECT_EQ(direct.GetModel("piped")->step, 6);
}

TEST_F(StepsTest, MayExpectAStep) {
  EXPECT_EQ(client.Steps("piped", Batches(3), {.expected_step = 0})->back().step, 3);
  const auto again = client.Steps("piped", Batches(3), {.expected_step = 0});
  EXPECT_EQ(again.status().reason, "STEP_MISMATCH");
  EXPECT_EQ(direct.GetModel("piped")->step, 3);
}

TEST_F(StepsTest, WithARequestIdAreMadeOnce) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(client.Steps("piped", Batches(10), {}, {.request_id = "r"})->back().step, 10);
  }
  EXPECT_EQ(direct.GetModel("piped")->step, 10);
}

TEST_F(StepsTest, TheCallbackMayEndTheCall) {
  size_t answered = 0;
  EXPECT_EQ(client
                .Steps(
                    "piped", [] { return Batches(1)[0]; },
                    [&](const Result<StepResult>&) { return ++answered < 3; })
                .code,
            StatusCode::kCancelled);
  EXPECT_EQ(answered, 3U);
}

TEST_F(StepsTest, AnExceptionOfACallbackCancelsARun) {
  const auto train = [&] {
    (void)client.Train("piped", Batches(1)[0], {.iterations = int64_t{1} << 50},
                       [](const TrainingEvent& event) {
                         if (event.sequence == 2) throw std::runtime_error("enough");
                         return true;
                       });
  };
  EXPECT_THROW(train(), std::runtime_error);
  for (int i = 0; !direct.GetModel("piped")->active_run.empty(); ++i) {
    ASSERT_LT(i, 1000) << "the run continues";
    std::this_thread::sleep_for(milliseconds(10));
  }
}

TEST_F(StepsTest, AnImportIsSentAgainFromTheStart) {
  std::string file;
  ASSERT_TRUE(direct
                  .ExportModel("piped",
                               [&](std::string_view bytes) {
                                 file += bytes;
                                 return true;
                               })
                  .ok());
  int openings = 0;
  const RepeatableSource source{[&]() -> ByteSource {
    ++openings;
    return [this, file, first = openings == 1,
            at = size_t{0}]() mutable -> std::optional<std::string> {
      if (at == file.size()) return std::nullopt;
      if (first && at > 0) proxy.Cut();
      const size_t size = std::min<size_t>(16, file.size() - at);
      at += size;
      return file.substr(at - size, size);
    };
  }};
  const auto imported = client.ImportModel(source, {.model_id = "copy"});
  ASSERT_TRUE(imported.ok()) << imported.status().ToString();
  EXPECT_EQ(openings, 2);
  EXPECT_EQ(TensorsOf(&direct, "copy"), TensorsOf(&direct, "piped"));
  // A source that can be read only once is not.
  bool cut = false;
  const auto once = client.ImportModel([&]() -> std::optional<std::string> {
    if (!std::exchange(cut, true)) return file.substr(0, 16);
    proxy.Cut();
    return std::nullopt;
  });
  EXPECT_EQ(once.status().code, StatusCode::kUnavailable) << once.status().ToString();
}

}  // namespace
}  // namespace backprop
