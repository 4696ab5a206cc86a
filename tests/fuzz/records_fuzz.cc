// Every record of the store. A part is one record (record_kinds.h), to which the harness gives a
// right checksum; with bit 7 of its kind its bytes are the whole record, with its frame.
//
// A decoder returns DATA_LOSS or a value; that value equals itself after it was encoded and decoded
// again.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "server/records/checkpoint_records.h"
#include "server/records/dataset_info.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "server/records/upgrade.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/record_kinds.h"
#include "tests/fuzz/world.h"

namespace backprop::fuzz {
namespace {

using google::protobuf::Message;

// The message of a record, with the entries of its maps in order.
std::string Canonical(const std::string& record, uint8_t kind) {
  const auto message = NewRecord(kind);
  const absl::Status opened = records::Open(record, "a record", message.get());
  BP_HOLDS(opened.ok(), opened.ToString());
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message->SerializeToCodedStream(&coded);
  }
  return bytes;
}

template <class Decode, class Encode>
void Check(uint8_t kind, const std::string& record, const Decode& decode, const Encode& encode) {
  auto value = decode(record);
  if (!value.ok()) {
    BP_HOLDS(absl::IsDataLoss(value.status()), value.status().ToString());
    return;
  }
  const std::string encoded = encode(*std::move(value));
  auto again = decode(encoded);
  BP_HOLDS(again.ok(), again.status().ToString());
  BP_HOLDS(Canonical(encode(*std::move(again)), kind) == Canonical(encoded, kind));
}

void CheckStates(uint8_t kind, const std::string& record) {
  for (const KnownModel& model : KnownModels()) {
    Check(
        kind, record,
        [&](const std::string& r) { return records::DecodeState(r, *model.network, "m"); },
        [](const std::shared_ptr<engine::State>& state) { return records::EncodeState(*state); });
  }
  const auto step = records::DecodeStepCount(record, "m");
  BP_HOLDS(step.ok() || absl::IsDataLoss(step.status()), step.status().ToString());
}

void CheckLoggedSteps(uint8_t kind, const std::string& record) {
  for (const KnownModel& model : KnownModels()) {
    Check(
        kind, record,
        [&](const std::string& r) { return records::DecodeLoggedStep(r, *model.network, "m"); },
        [](const records::LoggedStep& step) { return records::EncodeLoggedStep(step.work); });
  }
}

void CheckRows(uint8_t kind, const std::string& record) {
  for (const auto type : {engine::DataType::kFloat32, engine::DataType::kFloat64}) {
    Check(
        kind, record, [&](const std::string& r) { return records::DecodeChunk(r, type, "rows"); },
        [](const engine::Dataset& rows) {
          const auto chunks = records::EncodeRows(rows);
          BP_HOLDS(chunks.size() == 1, chunks.size());
          return chunks[0].record;
        });
  }
  for (const KnownModel& model : KnownModels()) {
    const auto rows = records::DecodeRows({record, record}, *model.network, "m");
    BP_HOLDS(rows.ok() || absl::IsDataLoss(rows.status()), rows.status().ToString());
  }
}

// The same record as the response to a creation in format 1.
void CheckUpgrade(const std::string& record) {
  std::string key = records::RegistryResponseKey(records::RegistryRequestKind::kCreate, 0, 0);
  std::string value = record;
  if (!records::UpgradeRecord(records::kRequests, &key, &value)) {
    BP_HOLDS(value == record);
    return;
  }
  const std::string upgraded = value;
  BP_HOLDS(!records::UpgradeRecord(records::kRequests, &key, &value) && value == upgraded,
           "an upgrade changes nothing twice");
}

void CheckRecord(uint8_t kind, const std::string& record) {
  using namespace records;  // NOLINT: the names of all its codecs
  const auto of = [](auto decode) {
    return [decode](const std::string& r) { return decode(r, "m"); };
  };
  switch (kind) {
    case kModel:
      return Check(kind, record, of(DecodeModel), EncodeModel);
    case kResponse:
      return Check(kind, record, of(DecodeResponse), EncodeResponse);
    case kRegistryResponse:
      return CheckUpgrade(record);
    case kLoggedStep:
      return CheckLoggedSteps(kind, record);
    case kRun:
      return Check(kind, record, of(DecodeRun), EncodeRun);
    case kMark:
      return Check(kind, record, of(DecodeMark),
                   [](const StoredMark& stored) { return EncodeMark(stored.mark, stored.log); });
    case kFinishedRun:
      return Check(kind, record, of(DecodeFinishedRun), EncodeFinishedRun);
    case kTrainingRows:
    case kValidationRows:
    case kDatasetRows:
      return CheckRows(kind, record);
    case kCheckpoint:
      return Check(kind, record, of(DecodeCheckpoint),
                   static_cast<std::string (*)(const Checkpoint&)>(EncodeCheckpoint));
    case kDataset:
      return Check(kind, record, of(DecodeDataset),
                   static_cast<std::string (*)(const DatasetInfo&)>(EncodeDataset));
    default:
      return CheckStates(kind, record);
  }
}

}  // namespace

Type RecordsType(uint8_t kind) { return (kind & 0x80) != 0 ? nullptr : TypeOfRecord(kind); }

void RunRecords(absl::string_view input) {
  for (const Part& part : ReadProgram(input)) {
    const auto kind = static_cast<uint8_t>((part.kind & 0x7f) % kRecordKinds);
    if ((part.kind & 0x80) != 0) {
      CheckRecord(kind, part.bytes);
      continue;
    }
    const auto message = NewRecord(kind);
    if (message->ParseFromString(part.bytes)) CheckRecord(kind, records::Seal(*message));
  }
}

// Each record of a server alone.
Seeds RecordsSeeds() {
  Seeds seeds;
  for (const Part& part : RecordsOfAServer()) {
    seeds.push_back(WriteProgram({part}));
    const auto message = NewRecord(part.kind);
    BP_HOLDS(message->ParseFromString(part.bytes));
    seeds.push_back(
        WriteProgram({{static_cast<uint8_t>(part.kind | 0x80), records::Seal(*message)}}));
  }
  return seeds;
}

}  // namespace backprop::fuzz
