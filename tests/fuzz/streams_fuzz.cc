// Streams over a real socket, in any order of operations. A part is one action: its kind modulo the
// number of actions, and the quotient chooses the stream or the method. Its bytes are a message.
//
// Afterwards every stream has ended on both sides, none with a code that says that the server has
// failed; the answers to a StepStream came in order and are complete if the caller read them all;
// and the model has made exactly the steps that were acknowledged, or on a stream that was broken
// at most as many as were sent.
#include <algorithm>
#include <chrono>
#include <memory>
#include <set>

#include "backprop/v1/admin_service.pb.h"
#include "tests/client/backprop/cutting_proxy.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/world.h"
#include "tests/temporary_directory.h"

namespace backprop::fuzz {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};  // until something that must happen has happened
constexpr milliseconds kMoment{3};         // for something that may happen
constexpr size_t kMostStreams = 8;
constexpr char kCounted[] = "models/m";  // the model whose steps are counted

enum Action : uint8_t {
  kTrain,
  kWatch,
  kDownload,  // ExportModel or CreateBackup, by the quotient
  kOpen,      // StepStream, UploadDataset, ImportModel or RestoreBackup, by the quotient
  kWriteStep,
  kWriteRows,
  kWriteModel,
  kWriteBackup,
  kWriteBytes,
  kHalfClose,
  kRead,
  kCancel,
  kCut,        // breaks the connection
  kReadToEnd,  // half-closes and reads all that comes
  kStep,       // a unary Step of the counted model
  kActions
};

Method MethodNamed(const std::string& name) {
  static const std::vector<Method> all =
      MethodsOf({"backprop.v1.TrainingService", "backprop.v1.AdminService"});
  for (const Method method : all) {
    if (method->name() == name) return method;
  }
  Fail(__FILE__, __LINE__, "the method exists", name);
}

// A stream of the client. Its operations are those of gRPC's asynchronous client: at most one read
// and one write at a time.
struct Stream {
  enum Operation { kStarted, kWritten, kWasRead, kFinished };
  struct Tag {
    Stream* stream;
    Operation operation;
  };

  Method method = nullptr;
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> calls;
  grpc::ByteBuffer reply;
  grpc::Status status;
  Tag tags[4] = {{this, kStarted}, {this, kWritten}, {this, kWasRead}, {this, kFinished}};
  bool started = false;
  bool writing = false;
  bool half_closed = false;
  bool reading = false;
  bool at_end = false;  // a read found no more messages
  bool finished = false;
  bool cancelled = false;
  bool cut = false;
  bool after_cut = false;  // opened later: gRPC may not have noticed that the connection is broken
  std::string model;       // of the last step that was sent
  std::vector<std::string> models;  // of each message that was sent
  int64_t replies = 0;

  bool lost() const {
    return cut || (after_cut && status.error_code() == grpc::StatusCode::UNAVAILABLE);
  }
  bool broken() const { return cancelled || lost(); }
  bool endless() const { return method->name() == "Train" || method->name() == "WatchTraining"; }
  bool is_steps() const { return method->name() == "StepStream"; }
};

// Runs one program.
class Streams {
 public:
  // `proxy` breaks the connections of `channel`; null: they are never broken.
  Streams(World* world, const std::shared_ptr<grpc::Channel>& channel, CuttingProxy* proxy)
      : world_(world), proxy_(proxy), stub_(channel) {}
  ~Streams() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void Do(const Part& part) {
    const auto action = static_cast<Action>(part.kind % kActions);
    const size_t choice = part.kind / kActions;
    if (action <= kOpen) return Open(action, choice, part.bytes);
    if (action == kStep) return Step();
    if (streams_.empty()) return;
    Stream* const stream = streams_[choice % streams_.size()].get();
    switch (action) {
      case kHalfClose:
        return HalfClose(stream);
      case kRead:
        return Read(stream, kMoment);
      case kCancel:
        stream->cancelled = true;
        return stream->context.TryCancel();
      case kCut:
        return Cut();
      case kReadToEnd:
        return ReadToEnd(stream);
      default:  // the bytes need not be of the method's type
        return Write(stream, part.bytes);
    }
  }

  // Ends all streams and checks what remains.
  void End() {
    for (const auto& stream : streams_) {
      ReadToEnd(stream.get());
      CheckEnd(*stream);
    }
    BP_HOLDS(world_->server()->context.calls.WaitForNone(absl::FromChrono(kPatience)),
             "a call has not ended");
    const int64_t steps = world_->GetModel(kCounted).step();
    const auto acknowledged = static_cast<int64_t>(acknowledged_.size());
    BP_HOLDS(steps >= acknowledged && steps <= acknowledged + Unanswered(), steps, " steps, ",
             acknowledged, " acknowledged");
    BP_HOLDS(acknowledged_.empty() || *acknowledged_.rbegin() <= steps, *acknowledged_.rbegin());
  }

 private:
  void Open(Action action, size_t choice, const std::string& bytes) {
    static const char* const kDownloads[] = {"ExportModel", "CreateBackup"};
    static const char* const kUploads[] = {"StepStream", "UploadDataset", "ImportModel",
                                           "RestoreBackup"};
    if (streams_.size() == kMostStreams) return;
    auto stream = std::make_unique<Stream>();
    stream->after_cut = cut_;
    stream->method = MethodNamed(action == kTrain      ? "Train"
                                 : action == kWatch    ? "WatchTraining"
                                 : action == kDownload ? kDownloads[choice % 2]
                                                       : kUploads[choice % 4]);
    stream->calls = stub_.PrepareCall(&stream->context, PathOf(stream->method), &queue_);
    stream->calls->StartCall(&stream->tags[Stream::kStarted]);
    Stream* const opened = stream.get();
    streams_.push_back(std::move(stream));
    WaitUntil([&] { return opened->started; });
    if (action == kOpen) return;
    Send(opened, action == kTrain ? NotOfTheCounted(bytes) : bytes);
    HalfClose(opened);
  }

  // Runs change the step count in their own way.
  static std::string NotOfTheCounted(const std::string& bytes) {
    v1::TrainRequest request;
    if (!request.ParseFromString(bytes)) return bytes;
    if (request.model() == kCounted) request.set_model("models/t");
    return request.SerializeAsString();
  }

  void Write(Stream* stream, const std::string& bytes) {
    if (stream->half_closed || !stream->method->client_streaming()) return;
    v1::StepStreamRequest step;
    if (stream->is_steps() && step.ParseFromString(bytes)) {
      step.mutable_step()->clear_request_id();  // a retry would be acknowledged and not made
      if (!step.step().model().empty()) stream->model = step.step().model();
      return Send(stream, step.SerializeAsString());
    }
    Send(stream, bytes);
  }

  void Send(Stream* stream, const std::string& bytes) {
    // A server that applies back-pressure does not take it.
    if (!WaitUntil([&] { return !stream->writing; }, kMoment)) return;
    stream->writing = true;
    stream->models.push_back(stream->model);
    stream->calls->Write(BufferOf(bytes), &stream->tags[Stream::kWritten]);
  }

  void HalfClose(Stream* stream) {
    if (stream->half_closed || !WaitUntil([&] { return !stream->writing; }, kMoment)) return;
    stream->half_closed = true;
    stream->writing = true;
    stream->calls->WritesDone(&stream->tags[Stream::kWritten]);
  }

  void Read(Stream* stream, milliseconds patience) {
    if (!stream->at_end && !std::exchange(stream->reading, true)) {
      stream->calls->Read(&stream->reply, &stream->tags[Stream::kWasRead]);
    }
    WaitUntil([&] { return !stream->reading; }, patience);
  }

  void Cut() {
    if (proxy_ == nullptr) return;
    proxy_->Cut();
    cut_ = true;
    for (const auto& stream : streams_) stream->cut = true;
  }

  void ReadToEnd(Stream* stream) {
    if (stream->endless()) {
      for (int i = 0; i < 4 && !stream->at_end; ++i) Read(stream, kMoment);
      if (!stream->at_end) {
        stream->cancelled = true;
        stream->context.TryCancel();
      }
    }
    while (!stream->at_end) {
      HalfClose(stream);
      Read(stream, kMoment);
      if (stream->half_closed) Read(stream, kPatience);
      BP_HOLDS(!stream->half_closed || !stream->reading, stream->method->name(),
               ": the stream does not go on");
    }
    WaitUntil([&] { return stream->finished; });
  }

  void Step() {
    auto request = FromJson<v1::StepRequest>(R"({"model":"models/m","batch":)" +
                                             std::string(kClassRows) + "}");
    v1::StepResponse response;
    grpc::ClientContext context;
    const grpc::Status status = world_->stub()->Step(&context, request, &response);
    // Earlier steps can have made the loss infinite.
    BP_HOLDS(status.ok() || status.error_code() == grpc::StatusCode::FAILED_PRECONDITION ||
                 MayBeRestoring(),
             status.error_code(), " ", status.error_message());
    if (status.ok()) Acknowledge(response.step());
  }

  void Acknowledge(int64_t step) {
    BP_HOLDS(acknowledged_.insert(step).second, step, " was acknowledged twice");
  }

  // Events of gRPC, until `holds` or for `patience`. Without a patience it must come to hold.
  template <class Condition>
  bool WaitUntil(const Condition& holds, milliseconds patience) {
    const auto deadline = std::chrono::system_clock::now() + patience;
    while (!holds()) {
      void* tag = nullptr;
      bool ok = false;
      if (queue_.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) return false;
      OnEvent(*static_cast<Stream::Tag*>(tag), ok);
    }
    return true;
  }
  template <class Condition>
  void WaitUntil(const Condition& holds) {
    BP_HOLDS(WaitUntil(holds, kPatience), "an operation does not end");
  }

  void OnEvent(const Stream::Tag& tag, bool ok) {
    Stream* const stream = tag.stream;
    switch (tag.operation) {
      case Stream::kStarted:
        stream->started = true;
        return;
      case Stream::kWritten:
        stream->writing = false;
        return;
      case Stream::kWasRead:
        stream->reading = false;
        if (ok) return OnReply(stream);
        stream->at_end = true;
        stream->calls->Finish(&stream->status, &stream->tags[Stream::kFinished]);
        return;
      case Stream::kFinished:
        stream->finished = true;
        return;
    }
  }

  void OnReply(Stream* stream) {
    ++stream->replies;
    const std::string bytes = BytesOf(stream->reply);
    const std::unique_ptr<google::protobuf::Message> message(
        google::protobuf::MessageFactory::generated_factory()
            ->GetPrototype(stream->method->output_type())
            ->New());
    BP_HOLDS(message->ParseFromString(bytes), stream->method->name());
    if (!stream->is_steps()) return;
    const auto& response = static_cast<const v1::StepStreamResponse&>(*message);
    BP_HOLDS(response.sequence() == stream->replies, response.DebugString());
    BP_HOLDS(static_cast<size_t>(stream->replies) <= stream->models.size());
    if (response.has_error()) {
      BP_HOLDS(!IsFailureOfServer(static_cast<grpc::StatusCode>(response.error().code())),
               response.DebugString());
      return;
    }
    BP_HOLDS(response.has_step(), response.DebugString());
    if (stream->models[static_cast<size_t>(stream->replies - 1)] == kCounted) {
      Acknowledge(response.step().step());
    }
  }

  // Steps of the counted model that were sent, and whose answers were lost.
  int64_t Unanswered() const {
    int64_t count = 0;
    for (const auto& stream : streams_) {
      if (!stream->is_steps() || !stream->broken()) continue;
      for (auto i = static_cast<size_t>(stream->replies); i < stream->models.size(); ++i) {
        count += stream->models[i] == kCounted ? 1 : 0;
      }
    }
    return count;
  }

  // A restore is refused, because there are models, but other calls can be at the same moment.
  bool MayBeRestoring() const {
    return std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) {
      return stream->method->name() == "RestoreBackup";
    });
  }

  void CheckEnd(const Stream& stream) const {
    if (stream.lost()) return;  // the client makes the status
    const auto code = stream.status.error_code();
    const std::string& method = stream.method->name();
    BP_HOLDS(!IsFailureOfServer(code), method, ": ", code, " ", stream.status.error_message());
    BP_HOLDS(code != grpc::StatusCode::UNAVAILABLE || MayBeRestoring(), method, ": ",
             stream.status.error_message());
    if (stream.cancelled) return;
    BP_HOLDS(code != grpc::StatusCode::CANCELLED, method);
    if (!stream.is_steps() || code != grpc::StatusCode::OK) return;
    BP_HOLDS(static_cast<size_t>(stream.replies) == stream.models.size(), stream.replies, " of ",
             stream.models.size(), " steps were answered");
  }

  World* const world_;
  CuttingProxy* const proxy_;
  bool cut_ = false;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::set<int64_t> acknowledged_;  // step counts of the counted model
};

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// A server, and a connection to it that is never cut.
struct Setting {
  TemporaryDirectory directory;
  World world{directory.path() + "/server"};
  std::shared_ptr<grpc::Channel> channel = Connect(world.server()->address);
};

}  // namespace

Type StreamsType(uint8_t kind) {
  switch (kind % kActions) {
    case kTrain:
      return v1::TrainRequest::descriptor();
    case kWatch:
      return v1::WatchTrainingRequest::descriptor();
    case kDownload:
      return v1::ExportModelRequest::descriptor();
    case kWriteStep:
      return v1::StepStreamRequest::descriptor();
    case kWriteRows:
      return v1::UploadDatasetRequest::descriptor();
    case kWriteModel:
      return v1::ImportModelRequest::descriptor();
    case kWriteBackup:
      return v1::RestoreBackupRequest::descriptor();
    default:
      return nullptr;
  }
}

void RunStreams(absl::string_view input) {
  static auto* const setting = new Setting;
  const Program program = ReadProgram(input);
  bool cuts = false;
  for (const Part& part : program) cuts = cuts || part.kind % kActions == kCut;
  {
    std::unique_ptr<CuttingProxy> proxy;
    std::shared_ptr<grpc::Channel> channel = setting->channel;
    if (cuts) {
      const std::string path = setting->directory.path() + "/proxy";
      proxy = std::make_unique<CuttingProxy>(path, setting->directory.path() + "/server");
      channel = Connect("unix:" + path);
    }
    Streams streams(&setting->world, channel, proxy.get());
    for (const Part& part : program) streams.Do(part);
    streams.End();
  }
  setting->world.Reset();
}

namespace {

uint8_t KindOf(Action action, int choice = 0) {
  return static_cast<uint8_t>(action + kActions * choice);
}

template <class Message>
Part ActionOf(Action action, int choice, const std::string& json) {
  return PartOf(KindOf(action, choice), FromJson<Message>(json));
}

Part StepOn(const char* model, int stream = 0) {
  return ActionOf<v1::StepStreamRequest>(
      kWriteStep, stream,
      absl::StrCat(R"({"step":{"model":")", model, R"(","batch":)", kClassRows, "}}"));
}

std::vector<Program> StepPrograms() {
  const Part open = {KindOf(kOpen), ""};
  const Part read = {KindOf(kRead), ""}, half_close = {KindOf(kHalfClose), ""};
  return {
      {open, StepOn("models/m"), StepOn(""), read, read, half_close, read},
      {open, StepOn("models/m"), StepOn("models/t"), StepOn("models/none"), {KindOf(kStep), ""}},
      {open,
       open,
       StepOn("models/m", 0),
       StepOn("models/m", 1),
       {KindOf(kCancel), ""},
       {KindOf(kReadToEnd, 1), ""}},
      {open, StepOn("models/m"), {KindOf(kCut), ""}, open, StepOn("models/m", 1)},
      {open, StepOn("models/m"), {KindOf(kWriteBytes), "\xff\xff"}, StepOn("")},
      {open, half_close, StepOn("models/m"), {KindOf(kCancel), ""}},
  };
}

std::vector<Program> OtherPrograms() {
  const Part train = ActionOf<v1::TrainRequest>(
      kTrain, 0, R"({"model":"models/t","dataset":"datasets/d","config":{"iterations":"100000"}})");
  const Part watch = ActionOf<v1::WatchTrainingRequest>(kWatch, 0, R"({"model":"models/t"})");
  const Part rows = ActionOf<v1::UploadDatasetRequest>(
      kWriteRows, 0, absl::StrCat(R"({"chunk":{"rows":)", kClassRows, "}}"));
  const Part header = ActionOf<v1::UploadDatasetRequest>(
      kWriteRows, 0, R"({"header":{"datasetId":"x","requestId":"u"}})");
  const Part commit =
      ActionOf<v1::UploadDatasetRequest>(kWriteRows, 0, R"({"commit":{"rows":"4"}})");
  const std::string file = ExportedModel("models/m");
  v1::ImportModelRequest import;
  import.set_model_id("x");
  import.set_data(file.substr(0, 100));
  v1::ImportModelRequest rest;
  rest.set_data(file.substr(100));
  v1::RestoreBackupRequest restore;
  restore.set_data(BackupOfAServer().substr(0, 1000));
  return {
      {train, watch, {KindOf(kRead), ""}, {KindOf(kRead, 1), ""}, {KindOf(kCancel), ""}},
      {train, watch, {KindOf(kCut), ""}, watch},
      {{KindOf(kOpen, 1), ""}, header, rows, commit, {KindOf(kReadToEnd), ""}},
      {{KindOf(kOpen, 1), ""}, header, rows, {KindOf(kCut), ""}, {KindOf(kOpen, 1), ""}},
      {{KindOf(kOpen, 2), ""},
       PartOf(KindOf(kWriteModel), import),
       PartOf(KindOf(kWriteModel), rest),
       {KindOf(kHalfClose), ""}},
      {{KindOf(kOpen, 3), ""}, PartOf(KindOf(kWriteBackup), restore), {KindOf(kHalfClose), ""}},
      {ActionOf<v1::ExportModelRequest>(kDownload, 0, R"({"model":"models/m"})"),
       {KindOf(kRead), ""},
       {KindOf(kCancel), ""}},
      {{KindOf(kDownload, 1), ""}, {KindOf(kRead), ""}, {KindOf(kReadToEnd), ""}},
  };
}

}  // namespace

Seeds StreamsSeeds() {
  Seeds seeds;
  for (const auto& programs : {StepPrograms(), OtherPrograms()}) {
    for (const Program& program : programs) seeds.push_back(WriteProgram(program));
  }
  return seeds;
}

}  // namespace backprop::fuzz
