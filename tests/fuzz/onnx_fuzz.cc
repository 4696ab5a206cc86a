// An ONNX file, as ImportModel takes it. The bytes of the parts are the file, one after another: a
// part of an even kind is a ModelProto, so that several are merged, one of an odd kind any bytes.
// The other bits of the last kind say which loss the call names, and in how many bytes at once the
// file is sent.
//
// An import ends with an error about the file, or with a model. It answers, and its export as ONNX,
// imported again, is the same model.
#include <onnx/onnx_pb.h>

#include <future>
#include <memory>

#include "server/rpc/handlers.h"
#include "server/transfer/onnx_file.h"
#include "tests/fuzz/call.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/world.h"

namespace backprop::fuzz {
namespace {

enum Kind : uint8_t { kMessage, kRaw };

// One of no loss and the five losses.
void SetLoss(uint8_t kind, v1::ImportModelRequest* request) {
  switch ((kind >> 1) % 6) {
    case 1:
      request->mutable_loss()->mutable_softmax_cross_entropy();
      break;
    case 2:
      request->mutable_loss()->mutable_binary_cross_entropy();
      break;
    case 3:
      request->mutable_loss()->mutable_mean_squared_error();
      break;
    case 4:
      request->mutable_loss()->mutable_mean_absolute_error();
      break;
    case 5:
      request->mutable_loss()->mutable_huber();
      break;
    default:
      break;
  }
}

absl::Status WaitFor(const std::function<void(rpc::Receiver<v1::ImportModelRequest>::Next)>& call) {
  std::promise<absl::Status> done;
  call([&](const absl::Status& status) { done.set_value(status); });
  return done.get_future().get();
}

// Imports a file as models/x.
absl::Status Import(World* world, const std::string& file, uint8_t kind) {
  v1::ImportModelResponse response;
  const auto receiver = rpc::ImportInto(&world->server()->context, rpc::Anonymous(), &response);
  const size_t at_once = (kind >> 4) == 0 ? file.size() + 1 : size_t{kind} * 16;
  for (size_t at = 0; at < std::max<size_t>(file.size(), 1); at += at_once) {
    v1::ImportModelRequest message;
    if (at == 0) {
      message.set_model_id("x");
      message.set_format(v1::MODEL_FILE_FORMAT_ONNX);
      SetLoss(kind, &message);
    }
    message.set_data(file.substr(at, at_once));
    absl::Status taken = WaitFor([&](auto next) { receiver->Take(message, std::move(next)); });
    if (!taken.ok()) return taken;
  }
  return WaitFor([&](auto next) { receiver->End(std::move(next)); });
}

std::string Export(World* world, const std::string& id) {
  const auto model = world->server()->registry.FindResident("default/" + id);
  BP_HOLDS(model.has_value() && model->ok());
  const auto source = rpc::ExportOf(**model, v1::MODEL_FILE_FORMAT_ONNX);
  BP_HOLDS(source.ok(), source.status().ToString());
  std::string file;
  for (;;) {
    const auto piece = (*source)->Next();
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

std::string ParametersOf(World* world) {
  v1::GetParametersRequest request;
  request.set_model("models/x");
  request.set_omit_optimizer_state(true);
  v1::GetParametersResponse response;
  grpc::ClientContext context;
  const grpc::Status status = world->stub()->GetParameters(&context, request, &response);
  BP_HOLDS(status.ok(), status.error_message());
  return response.parameters().SerializeAsString();
}

}  // namespace

Type OnnxType(uint8_t kind) {
  return (kind & 1) == kMessage ? onnx::ModelProto::descriptor() : nullptr;
}

void RunOnnx(absl::string_view input) {
  static auto* const world = new World;
  const Program program = ReadProgram(input);
  std::string file;
  for (const Part& part : program) file += part.bytes;
  const absl::Status imported =
      Import(world, file, program.empty() ? uint8_t{0} : program.back().kind);
  BP_HOLDS(IsVerdict(imported), imported.ToString());
  BP_HOLDS(imported.ok() || !imported.message().empty());
  if (!imported.ok()) return;
  CheckAnswers(world);
  const v1::ModelSpec spec = world->GetModel("models/x").spec();
  const std::string parameters = ParametersOf(world);
  const std::string first = Export(world, "x");
  BP_HOLDS(transfer::StartsLikeOnnx(first));
  Delete(world);
  const absl::Status again = Import(world, first, 0);
  BP_HOLDS(again.ok(), again.ToString());
  const v1::ModelSpec after = world->GetModel("models/x").spec();
  BP_HOLDS(spec.SerializeAsString() == after.SerializeAsString(), spec.DebugString(),
           after.DebugString());
  BP_HOLDS(parameters == ParametersOf(world), spec.DebugString());
  Delete(world);
}

Seeds OnnxSeeds() {
  Seeds seeds;
  World world;
  for (const char* id : {"m", "r"}) {
    const std::string file = Export(&world, id);
    onnx::ModelProto message;
    BP_HOLDS(message.ParseFromString(file));
    seeds.push_back(WriteProgram({PartOf(kMessage, message)}));
    seeds.push_back(WriteProgram({{kRaw | 3 << 4, file}}));
    // As another program would write it.
    message.clear_metadata_props();
    for (auto& node : *message.mutable_graph()->mutable_node()) node.clear_name();
    for (int loss = 0; loss < 6; ++loss) {
      seeds.push_back(WriteProgram({PartOf(static_cast<uint8_t>(loss << 1), message)}));
    }
  }
  return seeds;
}

}  // namespace backprop::fuzz
