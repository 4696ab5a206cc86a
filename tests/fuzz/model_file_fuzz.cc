// The file of a model, as ImportModel takes it. The parts are put together to a file: bits 0-1 of
// the kind of a part say what its bytes are (0: a ModelFile, in frames with right checksums; 1: the
// payload of such a frame; 2: bytes of the file as they are), bits 2-7 how the file is cut into
// messages. If no part is of the last kind, the file gets its first and last bytes.
//
// An import ends with an error about the file, or with a model. Its export, imported again, is the
// same model; and the model answers.
#include <future>
#include <memory>

#include "backprop/v1/model_file.pb.h"
#include "server/rpc/handlers.h"
#include "server/transfer/framed.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/world.h"

namespace backprop::fuzz {
namespace {

constexpr absl::string_view kMagic("BPMODEL\x01", transfer::kMagicBytes);
constexpr size_t kMostMessageBytes = size_t{1} << 20;

enum Kind : uint8_t { kMessage, kPayload, kRaw };
uint8_t KindOf(uint8_t kind) { return (kind & 3) % 3; }

// Its file, and in how many bytes at once it is sent.
struct File {
  std::string bytes;
  size_t at_once = kMostMessageBytes;
};

File FileOf(const Program& program) {
  File file;
  bool raw = false;
  for (const Part& part : program) raw = raw || KindOf(part.kind) == kRaw;
  transfer::FrameWriter frames;
  if (!raw) file.bytes = transfer::FrameWriter::Begin(kMagic);
  for (const Part& part : program) {
    if (KindOf(part.kind) == kRaw || part.bytes.empty()) {
      file.bytes += part.bytes;
    } else {
      file.bytes += frames.Frame(part.bytes);
    }
    if ((part.kind >> 2) != 0) file.at_once = part.kind >> 2;
  }
  if (!raw) file.bytes += frames.End();
  return file;
}

absl::Status WaitFor(const std::function<void(rpc::Receiver<v1::ImportModelRequest>::Next)>& call) {
  std::promise<absl::Status> done;
  call([&](const absl::Status& status) { done.set_value(status); });
  return done.get_future().get();
}

// Imports a file as models/x.
absl::Status Import(World* world, const File& file) {
  v1::ImportModelResponse response;
  const auto receiver = rpc::ImportInto(&world->server()->context, rpc::Anonymous(), &response);
  for (size_t at = 0; at < std::max<size_t>(file.bytes.size(), 1); at += file.at_once) {
    v1::ImportModelRequest message;
    if (at == 0) message.set_model_id("x");
    message.set_data(file.bytes.substr(at, file.at_once));
    absl::Status taken = WaitFor([&](auto next) { receiver->Take(message, std::move(next)); });
    if (!taken.ok()) return taken;
  }
  absl::Status ended = WaitFor([&](auto next) { receiver->End(std::move(next)); });
  if (ended.ok()) BP_HOLDS(response.model().name() == "models/x", response.DebugString());
  return ended;
}

std::string Export(World* world) {
  const auto model = world->server()->registry.FindResident("default/x");
  BP_HOLDS(model.has_value() && model->ok());
  const auto source = *rpc::ExportOf(**model, v1::MODEL_FILE_FORMAT_BACKPROP);
  std::string file;
  for (;;) {
    const auto piece = source->Next();
    BP_HOLDS(piece.ok(), piece.status().ToString());
    if (!piece->has_value()) return file;
    file += **piece;
  }
}

void Delete(World* world) {
  const absl::Status deleted = WaitFor(
      [&](auto next) { world->server()->registry.Delete("default/x", {}, std::move(next)); });
  BP_HOLDS(deleted.ok(), deleted.ToString());
}

v1::ModelFile ContentOf(const std::string& file) {
  transfer::FrameReader reader{std::string(kMagic)};
  std::string content;
  const absl::Status read = reader.Add(file, [&](absl::string_view payload) {
    content.append(payload.data(), payload.size());
    return absl::OkStatus();
  });
  BP_HOLDS(read.ok() && reader.CheckComplete().ok(), read.ToString());
  v1::ModelFile message;
  BP_HOLDS(message.ParseFromString(content));
  return message;
}

void CheckAnswers(World* world) {
  v1::PredictRequest predict;
  predict.set_model("models/x");
  const int inputs = world->GetModel("models/x").spec().input_size();
  for (int i = 0; i < inputs; ++i) predict.mutable_inputs()->add_values(0.5);
  v1::PredictResponse response;
  grpc::ClientContext context;
  const grpc::Status status = world->stub()->Predict(&context, predict, &response);
  BP_HOLDS(!IsFailureOfServer(status.error_code()), status.error_message());
}

}  // namespace

Type ModelFileType(uint8_t kind) {
  return KindOf(kind) == kMessage ? v1::ModelFile::descriptor() : nullptr;
}

void RunModelFile(absl::string_view input) {
  static auto* const world = new World;
  const absl::Status imported = Import(world, FileOf(ReadProgram(input)));
  BP_HOLDS(IsVerdict(imported), imported.ToString());
  if (!imported.ok()) return;
  CheckAnswers(world);
  const std::string first = Export(world);
  Delete(world);
  const absl::Status again = Import(world, {first});
  BP_HOLDS(again.ok(), again.ToString());
  const v1::ModelFile before = ContentOf(first);
  const v1::ModelFile after = ContentOf(Export(world));
  Delete(world);
  BP_HOLDS(before.parameters().SerializeAsString() == after.parameters().SerializeAsString(),
           before.DebugString(), after.DebugString());
  BP_HOLDS(before.model().spec().SerializeAsString() == after.model().spec().SerializeAsString(),
           before.DebugString(), after.DebugString());
  BP_HOLDS(before.model().step() == after.model().step());
}

Seeds ModelFileSeeds() {
  Seeds seeds;
  for (const char* name : {"models/m", "models/r"}) {
    const std::string file = ExportedModel(name);
    const v1::ModelFile content = ContentOf(file);
    seeds.push_back(WriteProgram({PartOf(kMessage, content)}));
    const std::string bytes = content.SerializeAsString();
    seeds.push_back(
        WriteProgram({{kPayload | 7 << 2, bytes.substr(0, 100)}, {kPayload, bytes.substr(100)}}));
    seeds.push_back(WriteProgram({{kRaw | 13 << 2, file}}));
  }
  return seeds;
}

}  // namespace backprop::fuzz
