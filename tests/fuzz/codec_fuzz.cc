// Every message that server/codec decodes, except single tensors (tensor_fuzz.cc). A part is one
// message; bits 0-2 of its kind say which, bits 3-4 the model or the precision.
//
// What was decoded is valid, and equals itself after it was encoded and decoded again, where there
// is an encoder.
#include <cmath>

#include "backprop/v1/dataset.pb.h"
#include "backprop/v1/model.pb.h"
#include "backprop/v1/training.pb.h"
#include "backprop/v1/training_service.pb.h"
#include "server/codec/batch_codec.h"
#include "server/codec/dataset_codec.h"
#include "server/codec/names.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/spec_codec.h"
#include "server/codec/training_codec.h"
#include "server/records/model_records.h"
#include "server/records/row_records.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"

namespace backprop::fuzz {
namespace {

enum Kind : uint8_t { kSpec, kConfig, kHeader, kChunk, kBatch, kParameters, kGradients, kNames };

uint8_t KindOf(const Part& part) { return part.kind & 7; }
size_t ChoiceOf(const Part& part) { return part.kind >> 3 & 3; }
const KnownModel& ModelOf(const Part& part) {
  return KnownModels()[ChoiceOf(part) % KnownModels().size()];
}

template <class Message>
Message Parsed(const Part& part) {
  Message message;
  // Fields before the damage are kept, so that the message is worth decoding anyway.
  (void)message.ParseFromString(part.bytes);
  return message;
}

void RunSpec(const Part& part) {
  const auto message = Parsed<v1::ModelSpec>(part);
  const auto spec = codec::DecodeSpec(message, SmallLimits());
  BP_HOLDS(IsVerdict(spec.status()), spec.status().ToString());
  if (!spec.ok()) return;
  v1::ModelSpec encoded;
  codec::EncodeSpec(*spec, &encoded);
  const auto again = codec::DecodeSpec(encoded, SmallLimits());
  BP_HOLDS(again.ok(), again.status().ToString(), encoded.DebugString());
  v1::ModelSpec encoded_again;
  codec::EncodeSpec(*again, &encoded_again);
  BP_HOLDS(encoded.SerializeAsString() == encoded_again.SerializeAsString(), encoded.DebugString());
  const std::vector<std::string> classes(message.class_names().begin(),
                                         message.class_names().end());
  const std::vector<std::string> features(message.feature_names().begin(),
                                          message.feature_names().end());
  const auto record = codec::DecodeSpecRecord(codec::EncodeSpecRecord(*spec, classes, features));
  BP_HOLDS(record.ok(), record.status().ToString());
  BP_HOLDS(record->class_names == classes && record->feature_names == features);
  const engine::Network network(*spec);
  BP_HOLDS(network.parameter_count() <= SmallLimits().max_parameters, network.parameter_count());
  const auto state = engine::InitialState(network);
  for (int64_t i = 0; i < network.parameter_count(); ++i) {
    BP_HOLDS(std::isfinite(state->values.Get(i)), encoded.DebugString());
  }
}

void RunConfig(const Part& part) {
  const auto message = Parsed<v1::TrainingConfig>(part);
  const int64_t rows = int64_t{1} << (8 * ChoiceOf(part));
  const bool has_validation = (part.kind & 32) != 0;
  const auto config = codec::DecodeTrainingConfig(message, rows, has_validation);
  BP_HOLDS(IsVerdict(config.status()), config.status().ToString());
  if (!config.ok()) return;
  BP_HOLDS(config->iterations >= 1, config->iterations);
  BP_HOLDS(config->batch_size >= 1 && config->batch_size <= rows, config->batch_size);
  BP_HOLDS(config->report_every >= 1, config->report_every);
  BP_HOLDS(config->report_interval > absl::ZeroDuration());
  BP_HOLDS(config->validation_split >= 0 && config->validation_split < 1);
  BP_HOLDS(config->checkpoints.every_iterations >= 0);
  BP_HOLDS(
      config->checkpoints.keep_last >= 1 && config->checkpoints.keep_last <= base::kMostKeptLast,
      config->checkpoints.keep_last);
  if (!config->early_stopping.has_value()) return;
  BP_HOLDS(config->early_stopping->patience >= 1);
  BP_HOLDS(config->early_stopping->min_delta >= 0);
}

// A record of the rows has the same rows.
void CheckRows(const engine::Dataset& rows) {
  BP_HOLDS(rows.rows >= 1 && rows.rows <= SmallLimits().max_rows, rows.rows);
  for (const engine::Buffer* numbers : {&rows.inputs, &rows.targets, &rows.sample_weights}) {
    for (int64_t i = 0; i < numbers->count(); ++i) BP_HOLDS(std::isfinite(numbers->Get(i)), i);
  }
  const auto chunks = records::EncodeRows(rows);
  BP_HOLDS(chunks.size() == 1);
  const auto again = records::DecodeChunk(chunks[0].record, rows.inputs.type(), "rows");
  BP_HOLDS(again.ok(), again.status().ToString());
  BP_HOLDS(records::EncodeRows(*again)[0].record == chunks[0].record);
}

void RunHeader(const Part& part) {
  const auto header = codec::DecodeHeader(Parsed<v1::DatasetHeader>(part));
  BP_HOLDS(IsVerdict(header.status()), header.status().ToString());
}

// The first chunk of a dataset, which sets its form.
void RunChunk(const Part& part) {
  const auto type =
      ChoiceOf(part) % 2 == 0 ? engine::DataType::kFloat32 : engine::DataType::kFloat64;
  auto chunk = codec::DecodeChunk(Parsed<v1::DatasetChunk>(part), type, SmallLimits());
  BP_HOLDS(IsVerdict(chunk.status()), chunk.status().ToString());
  if (!chunk.ok()) return;
  records::DatasetInfo info;
  info.data_type = type;
  std::vector<std::string> names;
  const absl::Status checked = codec::CheckChunk(info, chunk->claims, &chunk->rows, &names);
  BP_HOLDS(IsVerdict(checked), checked.ToString());
  if (!checked.ok()) return;
  CheckRows(chunk->rows);
  for (const int32_t c : chunk->rows.classes) {
    BP_HOLDS(c >= 0 && (names.empty() || static_cast<size_t>(c) < names.size()), c);
  }
}

void RunBatch(const Part& part) {
  const KnownModel& model = ModelOf(part);
  const auto rows = codec::DecodeBatch(Parsed<v1::Batch>(part), "batch", *model.network, model.info,
                                       SmallLimits());
  BP_HOLDS(IsVerdict(rows.status()), rows.status().ToString());
  if (!rows.ok()) return;
  CheckRows(*rows);
  for (const int32_t c : rows->classes) BP_HOLDS(c >= 0 && c < model.network->outputs(), c);
  const std::string logged = records::EncodeLoggedStep(rows->ConvertTo(rows->inputs.type()));
  const auto again = records::DecodeLoggedStep(logged, *model.network, "m");
  BP_HOLDS(again.ok(), again.status().ToString());
  BP_HOLDS(records::EncodeLoggedStep(
               std::get<engine::Dataset>(again->work).ConvertTo(rows->inputs.type())) == logged);
}

void RunParameters(const Part& part) {
  const engine::Network& network = *ModelOf(part).network;
  const auto current = engine::InitialState(network);
  const bool all = (part.kind & 32) != 0;
  const auto state =
      codec::DecodeParameters(Parsed<v1::Parameters>(part), "parameters", network, *current, all);
  BP_HOLDS(IsVerdict(state.status()), state.status().ToString());
  if (!state.ok()) return;
  for (int64_t i = 0; i < (*state)->values.count(); ++i) {
    BP_HOLDS(std::isfinite((*state)->values.Get(i)), i);
  }
  const std::string record = records::EncodeState(**state);
  for (const auto encoding : {v1::TENSOR_ENCODING_RAW, v1::TENSOR_ENCODING_VALUES}) {
    v1::Parameters encoded;
    codec::EncodeParameters(network, **state, encoding, /*with_optimizer_state=*/true, &encoded);
    const auto again = codec::DecodeParameters(encoded, "parameters", network, *current, true);
    BP_HOLDS(again.ok(), again.status().ToString());
    BP_HOLDS(records::EncodeState(**again) == record, encoded.DebugString());
  }
}

void RunGradients(const Part& part) {
  const engine::Network& network = *ModelOf(part).network;
  const auto request = Parsed<v1::ApplyGradientsRequest>(part);
  const auto gradients = codec::DecodeGradients(request.gradients(), "gradients", network);
  BP_HOLDS(IsVerdict(gradients.status()), gradients.status().ToString());
  if (!gradients.ok()) return;
  codec::NamedTensors encoded;
  codec::EncodeGradients(network, gradients->bytes(), v1::TENSOR_ENCODING_RAW, &encoded);
  const auto again = codec::DecodeGradients(encoded, "gradients", network);
  BP_HOLDS(again.ok(), again.status().ToString());
  BP_HOLDS(records::EncodeLoggedStep(again->Clone()) ==
           records::EncodeLoggedStep(gradients->Clone()));
}

// A name that is accepted is the one that is written for what it names.
void RunNames(const Part& part) {
  const std::string& name = part.bytes;
  const auto model = codec::ParseModelName("name", name);
  BP_HOLDS(IsVerdict(model.status()), model.status().ToString());
  if (model.ok()) BP_HOLDS(name == absl::StrCat("models/", *model) && codec::IsModelId(*model));
  const auto dataset = codec::ParseDatasetName("name", name);
  if (dataset.ok()) BP_HOLDS(name == absl::StrCat("datasets/", *dataset));
  const auto project = codec::ParseProjectName("name", name);
  if (project.ok()) BP_HOLDS(name == absl::StrCat("projects/", *project));
  const auto checkpoint = codec::ParseCheckpointName("name", name);
  if (checkpoint.ok()) {
    BP_HOLDS(name == absl::StrCat("models/", checkpoint->model, "/checkpoints/", checkpoint->id));
  }
  const auto run = codec::ParseRunName("models/m", name);
  BP_HOLDS(IsVerdict(run.status()), run.status().ToString());
  if (run.ok()) {
    BP_HOLDS(name.empty() ? *run == 0 : name == absl::StrCat("models/m/runs/", *run), *run);
  }
  BP_HOLDS(IsVerdict(codec::CheckRequestId(name)));
}

}  // namespace

Type CodecType(uint8_t kind) {
  switch (kind & 7) {
    case kSpec:
      return v1::ModelSpec::descriptor();
    case kConfig:
      return v1::TrainingConfig::descriptor();
    case kHeader:
      return v1::DatasetHeader::descriptor();
    case kChunk:
      return v1::DatasetChunk::descriptor();
    case kBatch:
      return v1::Batch::descriptor();
    case kParameters:
      return v1::Parameters::descriptor();
    case kGradients:
      return v1::ApplyGradientsRequest::descriptor();
    default:
      return nullptr;
  }
}

void RunCodec(absl::string_view input) {
  constexpr void (*kRun[])(const Part&) = {RunSpec,  RunConfig,     RunHeader,    RunChunk,
                                           RunBatch, RunParameters, RunGradients, RunNames};
  for (const Part& part : ReadProgram(input)) kRun[KindOf(part)](part);
}

Seeds CodecSeeds() {
  Seeds seeds;
  const auto add = [&](int kind, const google::protobuf::MessageLite& message) {
    seeds.push_back(WriteProgram({PartOf(static_cast<uint8_t>(kind), message)}));
  };
  for (const char* spec : kSpecs) add(kSpec, FromJson<v1::ModelSpec>(spec));
  add(kConfig, FromJson<v1::TrainingConfig>(R"({"iterations":"20","batchSize":4})"));
  add(kConfig | 8, FromJson<v1::TrainingConfig>(
                       R"({"epochs":"3","validationSplit":0.25,"earlyStopping":{"patience":"2"},
                           "checkpoints":{"everyIterations":"5","keepBest":true},
                           "reportInterval":"0.5s","continueEpoch":true})"));
  add(kHeader, FromJson<v1::DatasetHeader>(
                   R"({"datasetId":"d","labels":{"a":"b"},"featureNames":["x","y"]})"));
  const std::string rows =
      R"("inputs":{"shape":[4,2],"values":[0,0,0,1,1,0,1,1]},"sampleWeights":{"values":[1,2,1,0]})";
  add(kChunk, FromJson<v1::DatasetChunk>(R"({"rows":{)" + rows +
                                         R"(,"labelNames":["no","yes","yes","no"]}})"));
  add(kChunk | 8, FromJson<v1::DatasetChunk>(R"({"firstRow":"4","rows":{)" + rows +
                                             R"(,"targets":{"shape":[4,1],"values":[1,2,3,4]}}})"));
  add(kBatch, FromJson<v1::Batch>("{" + rows + R"(,"labels":{"values":[0,1,1,0]}})"));
  add(kBatch | 8,
      FromJson<v1::Batch>(R"({"inputs":{"values":[1,2,3]},"targets":{"values":[1,2]}})"));
  add(kBatch | 16,
      FromJson<v1::Batch>(R"({"inputs":{"values":[1,2]},"targets":{"values":[1,0]}})"));
  for (size_t i = 0; i < KnownModels().size(); ++i) {
    const engine::Network& network = *KnownModels()[i].network;
    const auto state = engine::InitialState(network);
    v1::Parameters parameters;
    codec::EncodeParameters(network, *state, v1::TENSOR_ENCODING_RAW, true, &parameters);
    add(kParameters | static_cast<int>(i << 3), parameters);
    add(kParameters | static_cast<int>(i << 3) | 32, parameters);
    v1::ApplyGradientsRequest gradients;
    codec::EncodeGradients(network, state->values.bytes(), v1::TENSOR_ENCODING_VALUES,
                           gradients.mutable_gradients());
    add(kGradients | static_cast<int>(i << 3), gradients);
  }
  for (const char* name : {"models/m", "datasets/d", "projects/p", "models/m/checkpoints/c",
                           "models/m/runs/12", "request-1"}) {
    seeds.push_back(WriteProgram({{kNames, name}}));
  }
  return seeds;
}

}  // namespace backprop::fuzz
