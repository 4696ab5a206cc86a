// The streams of server/rpc/call, with a service of their own on a real server.
#include "server/rpc/call/stream.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "backprop/v1/training_service.grpc.pb.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/exec/compute_pool.h"
#include "server/rpc/call/download_stream.h"
#include "server/rpc/call/upload_stream.h"
#include "server/rpc/context.h"
#include "server/rpc/service.h"
#include "tests/notification.h"

namespace backprop::rpc {
namespace {

// Has a write due for every call of Add, and ends after `last` of them, when the server stops, or
// when its caller has gone.
class CountingStream final : public Stream<v1::StepStreamRequest, v1::StepStreamResponse> {
 public:
  explicit CountingStream(const CallInfo& info) : Stream(info, "models/counted") {}
  void OnReadDone(bool ok) override { HasRead(ok); }
  void OnWriteDone(bool ok) override { HasWritten(ok); }

  void Add() {
    {
      const base::MutexLock lock(&mu_);
      ++added_;
    }
    Pump();
  }
  void OnCallerGone() override { caller_gone.Notify(); }
  using Stream::Pump;

  Notification caller_gone;
  std::atomic<int> starting{0};  // threads that start operations
  std::atomic<bool> two_started{false};
  std::atomic<int64_t> last{1 << 30};

 private:
  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing()) return {.read = !reading() && !half_closed()};
    if (cancelled()) return {.end = base::CallerGone()};
    if (stopping()) return {.end = absl::UnavailableError("stops")};
    if (written_ == last || half_closed()) return {.end = absl::OkStatus()};
    Due due;
    if (written_ < added_) {
      response_.set_sequence(++written_);
      due.write = true;
    }
    due.read = !reading();
    due.work = true;
    return due;
  }
  void Work() override {
    if (starting.fetch_add(1) != 0) two_started = true;
    std::this_thread::yield();
    starting.fetch_sub(1);
  }

  int64_t added_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t written_ ABSL_GUARDED_BY(mu_) = 0;
};

// Notes every message; the test calls back.
class HeldReceiver final : public Receiver<v1::UploadDatasetRequest> {
 public:
  struct Held {
    base::Mutex mu;
    base::CondVar changed;
    int taken ABSL_GUARDED_BY(mu) = 0;
    bool ended ABSL_GUARDED_BY(mu) = false;
    Next next ABSL_GUARDED_BY(mu);

    void WaitFor(int messages) {
      const base::MutexLock lock(&mu);
      changed.Wait(&mu, [&] { return taken == messages && next != nullptr; });
    }
    int Taken() {
      const base::MutexLock lock(&mu);
      return taken;
    }
    void Release(const absl::Status& status) {
      Next callback;
      {
        const base::MutexLock lock(&mu);
        callback = std::exchange(next, nullptr);
      }
      callback(status);
    }
  };
  explicit HeldReceiver(Held* held) : held_(held) {}
  void Take(const v1::UploadDatasetRequest&, Next next) override {
    const base::MutexLock lock(&held_->mu);
    ++held_->taken;
    held_->next = std::move(next);
    held_->changed.NotifyAll();
  }
  void End(Next done) override {
    {
      const base::MutexLock lock(&held_->mu);
      held_->ended = true;
    }
    done(absl::OkStatus());
  }

 private:
  Held* const held_;
};

// Chunks "1", "2", …; calls `before` with the number of each.
class NumberSource final : public ChunkSource {
 public:
  NumberSource(int chunks, std::function<void(int)> before)
      : chunks_(chunks), before_(std::move(before)) {}
  absl::StatusOr<std::optional<std::string>> Next() override {
    ++next_;
    if (before_) before_(next_);
    if (next_ > chunks_) return std::nullopt;
    return std::to_string(next_);
  }

 private:
  const int chunks_;
  const std::function<void(int)> before_;
  int next_ = 0;
};

// Chunks of 1 MiB without an end.
class LargeSource final : public ChunkSource {
 public:
  explicit LargeSource(std::atomic<int>* fetched) : fetched_(fetched) {}
  absl::StatusOr<std::optional<std::string>> Next() override {
    ++*fetched_;
    return std::string(1 << 20, 'x');
  }

 private:
  std::atomic<int>* const fetched_;
};

// What the next download sends. The test sets it, a thread of the server takes it.
class NextSource {
 public:
  using Source = absl::StatusOr<std::unique_ptr<ChunkSource>>;

  void Set(Source source) {
    const base::MutexLock lock(&mu_);
    source_ = std::move(source);
  }
  Source Take() {
    const base::MutexLock lock(&mu_);
    return std::move(source_);
  }

 private:
  base::Mutex mu_;
  Source source_ ABSL_GUARDED_BY(mu_) = nullptr;
};

// What the methods of the service below use.
struct Fixture {
  std::shared_ptr<CountingStream> counting;
  CallInfo info{};
  absl::Time deadline;
  Notification started;
  HeldReceiver::Held held;
  NextSource source;
  exec::ComputePool* pool = nullptr;
};
Fixture* fixture = nullptr;

class StreamsService final : public ServiceBase<v1::TrainingService> {
 public:
  explicit StreamsService(Context* context) : ServiceBase(context) {
    BidiStreaming("StepStream", StartCounting);
    ClientStreaming("UploadDataset", StartUpload);
    ServerStreaming("ExportModel", StartDownload);
  }

 private:
  static grpc::ServerBidiReactor<Incoming<v1::StepStreamRequest>, v1::StepStreamResponse>*
  StartCounting(Context*, const CallInfo& info) {
    fixture->counting = MakeStream<CountingStream>(info);
    fixture->deadline = fixture->counting->deadline();
    fixture->counting->Pump();
    fixture->started.Notify();
    return fixture->counting.get();
  }
  static grpc::ServerReadReactor<Incoming<v1::UploadDatasetRequest>>* StartUpload(
      Context*, const CallInfo& info, v1::UploadDatasetResponse*) {
    return UploadStream<v1::UploadDatasetRequest>::Start(
        info, std::make_unique<HeldReceiver>(&fixture->held));
  }
  static grpc::ServerWriteReactor<v1::ExportModelResponse>* StartDownload(
      Context*, const CallInfo& info, const v1::ExportModelRequest&, const absl::Status&) {
    return DownloadStream<v1::ExportModelResponse>::Start(info, "models/m", fixture->pool,
                                                          fixture->source.Take());
  }
};

class StreamTest : public testing::Test {
 protected:
  StreamTest() {
    fixture = &fixture_;
    fixture_.pool = &pool_;
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server_ = builder.BuildAndStart();
    stub = v1::TrainingService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                            grpc::InsecureChannelCredentials()));
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  }
  ~StreamTest() override {
    server_->Shutdown();
    server_->Wait();
    fixture_.counting = nullptr;
  }

  bool NoneIsLeft() { return context.calls.WaitForNone(absl::Seconds(20)); }

  Context context{nullptr, nullptr, nullptr, {}};
  std::unique_ptr<v1::TrainingService::Stub> stub;
  grpc::ClientContext call;

 private:
  exec::ComputePool pool_{2};
  Fixture fixture_;
  StreamsService service_{&context};
  std::unique_ptr<grpc::Server> server_;
};

// An event that happens while another thread starts operations is not lost, and no two threads
// start operations at the same time.
TEST_F(StreamTest, NoEventIsLostAndOneThreadStartsOperations) {
  constexpr int kThreads = 4;
  constexpr int kEach = 2000;
  const auto stream = stub->StepStream(&call);
  fixture->started.WaitForNotification();
  CountingStream& counting = *fixture->counting;
  counting.last = kThreads * kEach;
  std::vector<std::thread> adders;
  for (int i = 0; i < kThreads; ++i) {
    adders.emplace_back([&] {
      for (int event = 0; event < kEach; ++event) counting.Add();
    });
  }
  v1::StepStreamResponse response;
  int64_t responses = 0;
  while (stream->Read(&response)) EXPECT_EQ(response.sequence(), ++responses);
  for (std::thread& adder : adders) adder.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(responses, kThreads * kEach);
  EXPECT_FALSE(counting.two_started);
  EXPECT_TRUE(NoneIsLeft());
  counting.Add();  // nothing is started after the end
}

TEST_F(StreamTest, KnowsTheDeadlineOfItsCaller) {
  const auto stream = stub->StepStream(&call);
  fixture->started.WaitForNotification();
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  const absl::Time sent = absl::FromChrono(call.deadline());
  EXPECT_LT(absl::AbsDuration(fixture->deadline - sent), absl::Seconds(5)) << fixture->deadline;
}

TEST_F(StreamTest, AStoppingServerIsAnEvent) {
  const auto stream = stub->StepStream(&call);
  fixture->started.WaitForNotification();
  EXPECT_FALSE(context.calls.WaitForNone(absl::ZeroDuration()));
  context.calls.NotifyStop();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(StreamTest, ACancellationIsAnEvent) {
  const auto stream = stub->StepStream(&call);
  fixture->started.WaitForNotification();
  EXPECT_FALSE(fixture->counting->cancelled());
  call.TryCancel();
  fixture->counting->caller_gone.WaitForNotification();
  EXPECT_TRUE(fixture->counting->cancelled());
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(StreamTest, AnUploadTakesOneMessageAtATime) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
  stream->WritesDone();
  for (int i = 1; i <= 3; ++i) {
    fixture->held.WaitFor(i);
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_EQ(fixture->held.Taken(), i) << "a message was taken before the last one was processed";
    fixture->held.Release(absl::OkStatus());
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(fixture->held.ended);
}

TEST_F(StreamTest, AnErrorOfTheReceiverEndsAnUpload) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
  fixture->held.WaitFor(1);
  fixture->held.Release(base::FieldError("chunk", "is wrong"));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "chunk: is wrong");
  EXPECT_FALSE(fixture->held.ended);
}

// The receiver uses the message until it calls back, so the call must live.
TEST_F(StreamTest, AnUploadWhoseServerStopsEndsAfterItsReceiver) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
  fixture->held.WaitFor(1);
  context.calls.NotifyStop();
  EXPECT_FALSE(context.calls.WaitForNone(absl::Milliseconds(50)));
  fixture->held.Release(absl::OkStatus());
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(StreamTest, ADownloadWritesAllChunksInOrder) {
  fixture->source.Set(std::make_unique<NumberSource>(100, nullptr));
  const auto stream = stub->ExportModel(&call, {});
  v1::ExportModelResponse response;
  int chunks = 0;
  while (stream->Read(&response)) EXPECT_EQ(response.data(), std::to_string(++chunks));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(chunks, 100);
}

TEST_F(StreamTest, ADownloadWithoutASourceEndsWithItsError) {
  fixture->source.Set(absl::NotFoundError("no such model"));
  const auto stream = stub->ExportModel(&call, {});
  v1::ExportModelResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

// Calls EndIdle at times that are `timeout` apart, so that the second one finds what was idle.
class IdleStreamTest : public StreamTest {
 protected:
  static constexpr absl::Duration kTimeout = absl::Seconds(600);

  void Check(absl::Duration after) { context.calls.EndIdle(start_ + after, kTimeout); }
  // What a caller sees.
  static void ExpectIdle(const grpc::Status& status, const std::string& what) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(status.error_message(), "the call ended, because the caller " + what +
                                          " for 600 seconds (--stream-idle-timeout of the server)");
  }

 private:
  const absl::Time start_ = absl::Now();
};

TEST_F(IdleStreamTest, AnUploadThatSendsNothingEnds) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
  fixture->held.WaitFor(1);
  fixture->held.Release(absl::OkStatus());
  Check(absl::ZeroDuration());
  Check(kTimeout - absl::Seconds(1));
  EXPECT_FALSE(context.calls.WaitForNone(absl::Milliseconds(50)));
  Check(kTimeout);
  ExpectIdle(stream->Finish(), "sent no message");
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(IdleStreamTest, AMessageKeepsAnUpload) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
    fixture->held.WaitFor(i + 1);
    fixture->held.Release(absl::OkStatus());
    Check(i * (kTimeout - absl::Seconds(1)));
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

// The receiver may take as long as it needs: the caller is not late.
TEST_F(IdleStreamTest, AnUploadIsNotIdleWhileItsReceiverWorks) {
  v1::UploadDatasetResponse response;
  const auto stream = stub->UploadDataset(&call, &response);
  ASSERT_TRUE(stream->Write(v1::UploadDatasetRequest()));
  fixture->held.WaitFor(1);
  for (int i = 0; i < 4; ++i) Check(i * kTimeout);
  fixture->held.Release(absl::OkStatus());
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

// The flow control of HTTP/2 stops a download whose caller does not read.
TEST_F(IdleStreamTest, ADownloadThatIsNotReadIsCancelled) {
  std::atomic<int> fetched{0};
  fixture->source.Set(std::make_unique<LargeSource>(&fetched));
  const auto stream = stub->ExportModel(&call, {});
  int seen = -1;
  while (std::exchange(seen, fetched.load()) != fetched) absl::SleepFor(absl::Milliseconds(200));
  EXPECT_FALSE(context.calls.WaitForNone(absl::ZeroDuration()));
  Check(absl::ZeroDuration());
  Check(kTimeout);
  EXPECT_TRUE(NoneIsLeft());
  v1::ExportModelResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

class StoppedDownloadTest : public StreamTest {
 protected:
  // The server stops when chunk `stops_at` of a file of three is fetched.
  void Expect(int stops_at, int received, grpc::StatusCode code) {
    fixture->source.Set(std::make_unique<NumberSource>(3, [this, stops_at](int chunk) {
      if (chunk == stops_at) context.calls.NotifyStop();
    }));
    const auto stream = stub->ExportModel(&call, {});
    v1::ExportModelResponse response;
    int chunks = 0;
    while (stream->Read(&response)) ++chunks;
    EXPECT_EQ(stream->Finish().error_code(), code);
    EXPECT_EQ(chunks, received);
  }
};

TEST_F(StoppedDownloadTest, AChunkThatWasFetchedIsStillWritten) {
  Expect(2, 2, grpc::StatusCode::UNAVAILABLE);
}

TEST_F(StoppedDownloadTest, AFileThatIsCompleteDoesNotCountAsInterrupted) {
  Expect(4, 3, grpc::StatusCode::OK);
}

TEST_F(StreamTest, AStreamThatBeginsWhenTheServerStopsEnds) {
  context.calls.NotifyStop();
  const auto stream = stub->StepStream(&call);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(NoneIsLeft());
}

TEST_F(StreamTest, AStreamThatIsNotReadWaitsForItsReader) {
  std::atomic<int> fetched{0};
  fixture->source.Set(std::make_unique<LargeSource>(&fetched));
  const auto stream = stub->ExportModel(&call, {});
  absl::Time quiet = absl::Now();
  for (int64_t events = -1; absl::Now() - quiet < absl::Milliseconds(300);) {
    const OpenCall::Progress readers = context.calls.Readers();
    if (!readers.waits_for_reader || std::exchange(events, readers.events) != readers.events) {
      quiet = absl::Now();
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  call.TryCancel();
  v1::ExportModelResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(NoneIsLeft());
}

}  // namespace
}  // namespace backprop::rpc
