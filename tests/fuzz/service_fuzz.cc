// Calls of every method, with any bytes, through gRPC within one process. A part is one call: bits
// 0-5 of its kind are the method, its bytes the request. With bit 7 it is a further message of the
// call before it, which counts if that method streams requests. With bit 6 its bytes are the
// traceparent of the next call.
//
// No call ends with a code that says that the server has failed, or stays open; every response can
// be parsed; an error has a message, and details within the limits; an error of a single request
// has changed nothing; afterwards every model can be read.
#include <chrono>
#include <memory>
#include <optional>

#include "backprop/v1/admin_service.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/world.h"

namespace backprop::fuzz {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};  // of a call that ends without its caller
constexpr milliseconds kIdle{5};           // of a run's stream, before the caller leaves
constexpr int kMostReplies = 8;            // then the caller leaves
constexpr size_t kMostCalls = 16;
constexpr size_t kMostMessages = 16;  // of one call
constexpr int64_t kResetEvery = 20'000;

const std::vector<Method>& Methods() {
  static const std::vector<Method> methods =
      MethodsOf({"backprop.v1.TrainingService", "backprop.v1.AdminService",
                 "grpc.channelz.v1.Channelz", "grpc.reflection.v1.ServerReflection"});
  return methods;
}
Method MethodOf(uint8_t kind) { return Methods()[(kind & 0x3f) % Methods().size()]; }

// gRPC refuses to send other characters.
std::string Printable(const std::string& bytes) {
  std::string text = bytes.substr(0, 200);
  for (char& c : text) c = static_cast<char>(0x20 + static_cast<unsigned char>(c) % 0x5f);
  return text;
}

bool OnlyReads(const std::string& method) {
  for (const char* prefix : {"Get", "List", "Predict", "Evaluate", "GradCheck", "ComputeGradients",
                             "Watch", "Export", "CreateBackup", "ServerReflection"}) {
    if (method.rfind(prefix, 0) == 0) return true;
  }
  return false;
}

// One call. Ends the process if it does not end, or if a response is not one of the method's.
class Call {
 public:
  Call(World* world, Method method, const std::string& traceparent)
      : method_(method), stub_(world->channel()) {
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    if (!traceparent.empty()) context_.AddMetadata("traceparent", traceparent);
  }

  // Returns whether it can have changed something.
  bool Run(const std::vector<std::string>& messages) {
    stream_ = stub_.PrepareCall(&context_, PathOf(method_), &queue_);
    stream_->StartCall(Tag(kStart));
    grpc::Status status;
    bool finished = false;
    while (!finished) {
      const std::optional<Event> event = Wait();
      if (!event.has_value()) {
        Leave();
        continue;
      }
      switch (event->operation) {
        case kStart:
          Send(messages);
          stream_->Read(&reply_, Tag(kRead));
          break;
        case kWrite:
          if (event->ok) Send(messages);
          break;
        case kRead:
          if (event->ok) {
            Take();
            stream_->Read(&reply_, Tag(kRead));
          } else if (!std::exchange(finishing_, true)) {
            stream_->Finish(&status, Tag(kFinish));
          }
          break;
        case kFinish:
          finished = true;
          break;
      }
    }
    Drain();
    CheckStatus(status);
    return !OnlyReads(method_->name()) &&
           (status.ok() || left_ || replies_ > 0 || method_->client_streaming());
  }

 private:
  enum Operation : intptr_t { kStart = 1, kWrite, kRead, kFinish };
  struct Event {
    Operation operation;
    bool ok;
  };

  static void* Tag(Operation operation) { return reinterpret_cast<void*>(operation); }

  // Nothing if the call is one that may stay open, and nothing has happened.
  std::optional<Event> Wait() {
    const bool endless =
        (method_->name() == "Train" || method_->name() == "WatchTraining") && !left_;
    void* tag = nullptr;
    bool ok = false;
    const auto deadline =
        std::chrono::system_clock::now() + (endless ? kIdle : kPatience + kPatience);
    if (queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) {
      return Event{static_cast<Operation>(reinterpret_cast<intptr_t>(tag)), ok};
    }
    BP_HOLDS(endless, method_->name(), ": the call does not end");
    return std::nullopt;
  }

  void Send(const std::vector<std::string>& messages) {
    if (writes_done_) return;
    if (sent_ < messages.size()) return stream_->Write(BufferOf(messages[sent_++]), Tag(kWrite));
    writes_done_ = true;
    stream_->WritesDone(Tag(kWrite));
  }

  void Take() {
    const std::unique_ptr<google::protobuf::Message> message(
        google::protobuf::MessageFactory::generated_factory()
            ->GetPrototype(method_->output_type())
            ->New());
    BP_HOLDS(message->ParseFromString(BytesOf(reply_)), method_->name());
    if (++replies_ >= kMostReplies && method_->server_streaming()) Leave();
  }

  void Leave() {
    left_ = true;
    context_.TryCancel();
  }

  // gRPC still owns the tag of a write.
  void Drain() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void CheckStatus(const grpc::Status& status) const {
    const auto code = status.error_code();
    BP_HOLDS(!IsFailureOfServer(code), method_->name(), ": ", code, " ", status.error_message());
    BP_HOLDS(code != grpc::StatusCode::CANCELLED || left_, method_->name());
    if (status.ok() || left_) return;
    BP_HOLDS(!status.error_message().empty(), method_->name());
    BP_HOLDS(status.error_message().size() + status.error_details().size() <= 8192, method_->name(),
             " ", status.error_message());
    google::rpc::Status details;
    BP_HOLDS(details.ParseFromString(status.error_details()), method_->name());
    BP_HOLDS(details.details_size() == 0 || details.code() == code, method_->name());
  }

  const Method method_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer reply_;
  size_t sent_ = 0;
  int replies_ = 0;
  bool writes_done_ = false;
  bool finishing_ = false;
  bool left_ = false;
};

// Reads every model as a client would.
void CheckModels(World* world) {
  for (const std::string& name : world->Models()) {
    const v1::Model model = world->GetModel(name);
    BP_HOLDS(model.name() == name, name);
    BP_HOLDS(model.step() >= 0, name, " ", model.step());
    v1::GetParametersRequest get;
    get.set_model(name);
    get.set_encoding(v1::TENSOR_ENCODING_RAW);
    v1::GetParametersResponse response;
    grpc::ClientContext context;
    const grpc::Status status = world->stub()->GetParameters(&context, get, &response);
    BP_HOLDS(status.ok(), name, ": ", status.error_message());
    BP_HOLDS(response.parameters().tensors_size() == 2 * model.spec().layers_size(), name);
  }
}

World* TheWorld() {
  static auto& world = *new std::unique_ptr<World>;  // threads use it until the process ends
  static int64_t inputs = 0;
  // What a server remembers is bounded, but in tests its clock can run away.
  if (world == nullptr || ++inputs % kResetEvery == 0) {
    world.reset();
    world = std::make_unique<World>();
  }
  return world.get();
}

}  // namespace

Type ServiceType(uint8_t kind) {
  return (kind & 0xc0) == 0x40 ? nullptr : MethodOf(kind)->input_type();
}

void RunService(absl::string_view input) {
  World* const world = TheWorld();
  const Program program = ReadProgram(input);
  bool changes = false;
  size_t calls = 0;
  std::string traceparent;
  for (size_t i = 0; i < program.size() && calls < kMostCalls;) {
    if ((program[i].kind & 0xc0) == 0x40) {
      traceparent = Printable(program[i++].bytes);
      continue;
    }
    const Method method = MethodOf(program[i].kind);
    std::vector<std::string> messages = {program[i++].bytes};
    for (; i < program.size() && (program[i].kind & 0x80) != 0; ++i) {
      if (method->client_streaming() && messages.size() < kMostMessages) {
        messages.push_back(program[i].bytes);
      }
    }
    ++calls;
    if (Call(world, method, std::exchange(traceparent, "")).Run(messages)) changes = true;
  }
  BP_HOLDS(world->server()->context.calls.WaitForNone(absl::FromChrono(kPatience)),
           "a call has not ended");
  world->ForgetRequests();
  if (!world->Changed()) return;
  BP_HOLDS(changes, "calls that only read, or failed, have changed a record");
  CheckModels(world);
  world->Reset();
}

namespace {

uint8_t IndexOf(const std::string& method) {
  for (size_t i = 0; i < Methods().size(); ++i) {
    if (Methods()[i]->name() == method) return static_cast<uint8_t>(i);
  }
  Fail(__FILE__, __LINE__, "the method exists", method);
}

// A part with the request of a method as JSON.
Part CallOf(const std::string& method, const std::string& json, uint8_t flags = 0) {
  const uint8_t index = IndexOf(method);
  const std::unique_ptr<google::protobuf::Message> message(
      google::protobuf::MessageFactory::generated_factory()
          ->GetPrototype(Methods()[index]->input_type())
          ->New());
  const auto status = google::protobuf::util::JsonStringToMessage(json, message.get());
  BP_HOLDS(status.ok(), method, ": ", status.ToString(), " ", json);
  return PartOf(index | flags, *message);
}

// The messages that carry a file.
template <class Message>
void AddFile(const std::string& method, const std::string& file, Program* program) {
  constexpr size_t kAtOnce = 8000;
  for (size_t at = 0; at < file.size(); at += kAtOnce) {
    Message message;
    message.set_data(file.substr(at, kAtOnce));
    program->push_back(PartOf(IndexOf(method) | (at == 0 ? 0 : 0x80), message));
  }
}

std::string WithRows(const std::string& before, const std::string& name, const char* rows) {
  return absl::StrCat("{", before, ",\"", name, "\":", rows, "}");
}

std::vector<Program> TrainingSeeds() {
  const std::string m = R"("model":"models/m")";
  const Part step =
      CallOf("Step", WithRows(m + R"(,"requestId":"r","expectedStep":"0")", "batch", kClassRows));
  return {{CallOf("Train", WithRows(m + R"(,"config":{"epochs":"2"})", "data", kClassRows)),
           CallOf("WatchTraining", R"({"model":"models/m"})")},
          {CallOf("Train", R"({"model":"models/t","dataset":"datasets/d","detach":true,"config":{
          "iterations":"1000000","validationSplit":0.5,"checkpoints":{"keepBest":true}}})"),
           CallOf("Train", R"({"model":"models/t","dataset":"datasets/d","wait":true})"),
           CallOf("StopTraining", R"({"model":"models/t"})"),
           CallOf("ListCheckpoints", R"({"model":"models/t"})")},
          {step, step, CallOf("GetModel", R"({"name":"models/m"})")},
          {CallOf("StepStream", "{\"step\":" + WithRows(m, "batch", kClassRows) + "}"),
           CallOf("StepStream",
                  "{\"step\":" + WithRows(R"("requestId":"s")", "batch", kClassRows) + "}", 0x80)},
          {CallOf("ComputeGradients", WithRows(m, "batch", kClassRows)),
           CallOf("GradCheck", WithRows(m, "batch", kClassRows))},
          {CallOf("Predict", R"({"model":"models/r","inputs":{"shape":[1,3],"values":[1,2,3]}})"),
           CallOf("Evaluate", WithRows(R"("model":"models/r")", "data", kTargetRows)),
           CallOf("Evaluate", R"({"model":"models/m","dataset":"datasets/d","topK":1})")}};
}

std::vector<Program> ResourceSeeds() {
  std::vector<Program> programs = {
      {CallOf("CreateModel", absl::StrCat(R"({"modelId":"x","requestId":"r","ttl":"60s",)",
                                          R"("labels":{"a":"b"},"spec":)", kSpecs[2], "}")),
       CallOf("ListModels", R"({"pageSize":2,"labels":{"a":"b"}})"),
       CallOf("DeleteModel", R"({"name":"models/x"})")},
      {CallOf("CreateCheckpoint", R"({"model":"models/m","checkpointId":"c"})"),
       CallOf("RestoreCheckpoint", R"({"name":"models/m/checkpoints/c"})"),
       CallOf("DeleteCheckpoint", R"({"name":"models/m/checkpoints/c"})")},
      {CallOf("UploadDataset", R"({"header":{"datasetId":"x","requestId":"u"}})"),
       CallOf("UploadDataset", absl::StrCat(R"({"chunk":{"rows":)", kClassRows, "}}"), 0x80),
       CallOf("UploadDataset", R"({"commit":{"rows":"4"}})", 0x80),
       CallOf("GetDataset", R"({"name":"datasets/x"})"), CallOf("ListDatasets", "{}"),
       CallOf("DeleteDataset", R"({"name":"datasets/x"})")},
      {CallOf("GetProject", R"({"name":"projects/default"})"), CallOf("ListProjects", "{}"),
       CallOf("GetServers", "{}"), CallOf("GetTopChannels", "{}")},
      {CallOf("ServerReflectionInfo", R"({"listServices":""})"),
       CallOf("ServerReflectionInfo", R"({"fileContainingSymbol":"backprop.v1.Tensor"})", 0x80)},
      {{0x40, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
       CallOf("GetModel", R"({"name":"models/none"})")},
      {CallOf("ExportModel", R"({"model":"models/r"})"), CallOf("CreateBackup", "{}")},
      {CallOf("GetParameters", R"({"model":"models/r"})")}};
  Program import;
  AddFile<v1::ImportModelRequest>("ImportModel", ExportedModel("models/r"), &import);
  programs.push_back(import);
  // A backup can be restored to an empty server only.
  Program restore = {CallOf("DeleteModel", R"({"name":"models/m"})"),
                     CallOf("DeleteModel", R"({"name":"models/r"})"),
                     CallOf("DeleteModel", R"({"name":"models/t"})"),
                     CallOf("DeleteDataset", R"({"name":"datasets/d"})")};
  AddFile<v1::RestoreBackupRequest>("RestoreBackup", BackupOfAServer(), &restore);
  programs.push_back(restore);
  return programs;
}

// The parameters of a model, set and applied as gradients.
Program ParametersSeed() {
  World world;
  v1::GetParametersRequest get;
  get.set_model("models/r");
  v1::GetParametersResponse response;
  grpc::ClientContext context;
  BP_HOLDS(world.stub()->GetParameters(&context, get, &response).ok());
  v1::SetParametersRequest set;
  set.set_model("models/r");
  *set.mutable_parameters() = response.parameters();
  v1::ApplyGradientsRequest apply;
  apply.set_model("models/r");
  *apply.mutable_gradients() = response.parameters().tensors();
  return {PartOf(IndexOf("SetParameters"), set), PartOf(IndexOf("ApplyGradients"), apply)};
}

}  // namespace

Seeds ServiceSeeds() {
  Seeds seeds = {WriteProgram(ParametersSeed())};
  for (const auto& programs : {TrainingSeeds(), ResourceSeeds()}) {
    for (const Program& program : programs) seeds.push_back(WriteProgram(program));
  }
  return seeds;
}

}  // namespace backprop::fuzz
