#include "tests/fuzz/record_kinds.h"

#include <vector>

#include "server/records/project.h"
#include "server/records/records.pb.h"
#include "server/records/tables.h"
#include "tests/fuzz/harness.h"

namespace backprop::fuzz {
namespace {

namespace pb = records::v1;
using records::RunPart;

constexpr const char* kIds[] = {"m", "r", "t", "x"};

// The kind of a stored record, and the uid in its key; 0 if there is none.
struct Known {
  uint8_t kind;
  records::Uid uid;
};

records::Uid UidAt(absl::string_view key, size_t at) {
  records::Uid uid = 0;
  for (const char byte : key.substr(at, sizeof uid)) {
    uid = (uid << 8) | static_cast<unsigned char>(byte);
  }
  return uid;
}

Known KindOfRun(absl::string_view key) {
  const records::Uid uid = UidAt(key, 1);
  switch (static_cast<RunPart>(key[0])) {
    case RunPart::kRun:
      return {kRun, uid};
    case RunPart::kMark:
      return {kMark, uid};
    case RunPart::kBest:
      return {kBestState, uid};
    case RunPart::kFinished:
      return {kFinishedRun, uid};
  }
  return {kRun, uid};
}

Known KindOfKey(const store::Table& table, absl::string_view key) {
  switch (table.number) {
    case records::kModels.number:
      return {kModel, 0};
    case records::kStates.number:
      return {kState, UidAt(key, 0)};
    case records::kRequests.number:
      return {UidAt(key, 0) == 0 ? kRegistryResponse : kResponse, UidAt(key, 0)};
    case records::kLog.number:
      return {kLoggedStep, UidAt(key, 0)};
    case records::kRuns.number:
      return KindOfRun(key);
    case records::kChunks.number:
      return {key[16] == 't' ? kTrainingRows : kValidationRows, UidAt(key, 0)};
    case records::kCheckpoints.number:
      return {key[8] == 'i' ? kCheckpoint : kCheckpointState, UidAt(key, 0)};
    case records::kDatasets.number:
      return {kDataset, 0};
    default:
      return {kDatasetRows, UidAt(key, 0)};
  }
}

}  // namespace

Type TypeOfRecord(uint8_t kind) {
  switch (kind % kRecordKinds) {
    case kModel:
      return pb::Model::descriptor();
    case kResponse:
      return pb::Response::descriptor();
    case kRegistryResponse:
      return pb::RegistryResponse::descriptor();
    case kLoggedStep:
      return pb::LoggedStep::descriptor();
    case kRun:
      return pb::Run::descriptor();
    case kMark:
      return pb::Mark::descriptor();
    case kFinishedRun:
      return pb::FinishedRun::descriptor();
    case kTrainingRows:
    case kValidationRows:
    case kDatasetRows:
      return pb::Rows::descriptor();
    case kCheckpoint:
      return pb::Checkpoint::descriptor();
    case kDataset:
      return pb::Dataset::descriptor();
    default:
      return pb::State::descriptor();
  }
}

std::unique_ptr<google::protobuf::Message> NewRecord(uint8_t kind) {
  return std::unique_ptr<google::protobuf::Message>(
      google::protobuf::MessageFactory::generated_factory()
          ->GetPrototype(TypeOfRecord(kind))
          ->New());
}

RecordPlaces::Place RecordPlaces::Next(uint8_t kind, const google::protobuf::Message& message) {
  using records::kRuns;
  const auto id = [](uint64_t number) {
    return records::ScopedId(records::kDefaultProject, kIds[number % std::size(kIds)]);
  };
  switch (kind % kRecordKinds) {
    case kModel:
      model_ = static_cast<const pb::Model&>(message).uid();
      return {&records::kModels, id(models_++)};
    case kState:
      step_ = static_cast<uint64_t>(static_cast<const pb::State&>(message).step());
      return {&records::kStates, records::UidKey(model_)};
    case kResponse:
      return {&records::kRequests, records::ResponseKey(model_, responses_++)};
    case kRegistryResponse:
      return {&records::kRequests,
              records::RegistryResponseKey(records::RegistryRequestKind::kCreate, 0,
                                           registry_responses_++)};
    case kLoggedStep:
      return {&records::kLog, records::LoggedStepKey(model_, static_cast<int64_t>(++step_))};
    case kRun:
      run_ = static_cast<const pb::Run&>(message).number();
      chunks_ = 0;
      return {&kRuns, records::RunKey(model_, RunPart::kRun)};
    case kMark:
      return {&kRuns, records::RunKey(model_, RunPart::kMark)};
    case kBestState:
      return {&kRuns, records::RunKey(model_, RunPart::kBest)};
    case kFinishedRun:
      return {&kRuns, records::RunKey(model_, RunPart::kFinished)};
    case kTrainingRows:
      return {&records::kChunks,
              records::ChunkKey(model_, run_, records::RowsOf::kTraining, chunks_++)};
    case kValidationRows:
      return {&records::kChunks, records::ChunkKey(model_, run_, records::RowsOf::kValidation, 0)};
    case kCheckpoint: {
      const auto& checkpoint = static_cast<const pb::Checkpoint&>(message);
      state_hash_ = checkpoint.state_hash();
      return {&records::kCheckpoints, records::CheckpointKey(model_, checkpoint.id())};
    }
    case kCheckpointState:
      return {&records::kCheckpoints, records::CheckpointStateKey(model_, state_hash_)};
    case kDataset:
      dataset_ = static_cast<const pb::Dataset&>(message).uid();
      row_ = 0;
      return {&records::kDatasets, datasets_++ == 0 ? "default/d" : "default/e"};
    default: {
      const uint64_t first = row_;
      row_ += static_cast<uint64_t>(static_cast<const pb::Rows&>(message).rows());
      return {&records::kDatasetRows,
              records::DatasetRowsKey(dataset_, static_cast<int64_t>(first))};
    }
  }
}

Program ProgramOf(store::Store* store) {
  struct Found {
    Known known;
    std::string message;
  };
  std::vector<Found> all;
  for (const store::Table* table : records::kTables) {
    const auto status =
        store->Scan(*table, "", "", [&](absl::string_view key, absl::string_view value) {
          all.push_back({KindOfKey(*table, key), std::string(value.substr(kFrameBytes))});
          return true;
        });
    BP_HOLDS(status.ok(), status.ToString());
  }
  Program program;
  const auto add_of = [&](records::Uid uid) {
    for (const Found& found : all) {
      if (found.known.uid == uid && found.known.kind != kModel && found.known.kind != kDataset) {
        program.push_back({found.known.kind, found.message});
      }
    }
  };
  add_of(0);
  for (const Found& found : all) {
    if (found.known.kind != kModel && found.known.kind != kDataset) continue;
    program.push_back({found.known.kind, found.message});
    const auto message = NewRecord(found.known.kind);
    BP_HOLDS(message->ParseFromString(found.message));
    add_of(found.known.kind == kModel ? static_cast<const pb::Model&>(*message).uid()
                                      : static_cast<const pb::Dataset&>(*message).uid());
  }
  return program;
}

}  // namespace backprop::fuzz
