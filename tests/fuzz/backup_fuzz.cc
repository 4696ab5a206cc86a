// The file of a backup. The parts are put together to a file: bits 6-7 of the kind of a part say
// what its bytes are (0: a record, with the kind of record_kinds.h and a right checksum; 1: bytes
// of the file as they are; 2: the payload of a frame; 3: the format, in a frame). If no part is of
// kind 1, the file gets its first and last bytes, and the format unless the first part is one.
//
// A restore ends with an error about the file, and then leaves nothing; or with records of which a
// backup, restored again, has the same ones. Restored records of format 1 are upgraded.
#include <future>

#include "server/records/frame.h"
#include "server/records/tables.h"
#include "server/store/memory_store.h"
#include "server/transfer/backup.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/record_kinds.h"
#include "tests/fuzz/world.h"

namespace backprop::fuzz {
namespace {

constexpr absl::string_view kMagic("BPBACKU\x01", transfer::kMagicBytes);

enum Kind : uint8_t { kRecord, kRaw, kPayload, kFormat };
uint8_t KindOf(uint8_t kind) { return kind >> 6; }

void Append(const void* bytes, size_t size, std::string* out) {
  out->append(static_cast<const char*>(bytes), size);
}

// A record as a backup holds it (docs/durability.md).
std::string RecordOf(const RecordPlaces::Place& place, const std::string& value) {
  std::string record(1, static_cast<char>(place.table->number));
  const auto key_bytes = static_cast<uint32_t>(place.key.size());
  const auto value_bytes = static_cast<uint64_t>(value.size());
  Append(&key_bytes, sizeof key_bytes, &record);
  Append(&value_bytes, sizeof value_bytes, &record);
  return record + place.key + value;
}

std::string FileOf(const Program& program) {
  std::string file;
  bool raw = false;
  for (const Part& part : program) raw = raw || KindOf(part.kind) == kRaw;
  transfer::FrameWriter frames;
  if (!raw) file = transfer::FrameWriter::Begin(kMagic);
  if (!raw && (program.empty() || KindOf(program[0].kind) != kFormat)) {
    file += frames.Frame(absl::StrCat("format ", records::kFormatVersion));
  }
  RecordPlaces places;
  for (const Part& part : program) {
    const auto kind = static_cast<uint8_t>(part.kind & 0x3f);
    if (KindOf(part.kind) == kRaw) {
      file += part.bytes;
    } else if (KindOf(part.kind) == kFormat) {
      file += frames.Frame(absl::StrCat("format ", part.bytes));
    } else if (KindOf(part.kind) == kPayload) {
      if (!part.bytes.empty()) file += frames.Frame(part.bytes);
    } else if (const auto message = NewRecord(kind); message->ParseFromString(part.bytes)) {
      const RecordPlaces::Place place = places.Next(kind, *message);
      file += frames.Frame(RecordOf(place, records::Seal(*message)));
    }
  }
  if (!raw) file += frames.End();
  return file;
}

std::string Everything(store::Store* store) {
  std::string all;
  for (const store::Table* table : records::kTables) {
    const auto status =
        store->Scan(*table, "", "", [&](absl::string_view key, absl::string_view value) {
          absl::StrAppend(&all, table->number, ":", key.size(), ":", key, value.size(), ":", value);
          return true;
        });
    BP_HOLDS(status.ok(), status.ToString());
  }
  return all;
}

absl::Status Restore(store::Store* store, absl::string_view file, size_t at_once) {
  transfer::BackupWriter writer(store);
  for (size_t at = 0; at < file.size(); at += at_once) {
    std::promise<absl::Status> added;
    writer.Add(file.substr(at, at_once), [&](absl::Status status) { added.set_value(status); });
    absl::Status status = added.get_future().get();
    if (!status.ok()) return status;
  }
  std::promise<absl::Status> finished;
  writer.Finish([&](absl::Status status) { finished.set_value(status); });
  return finished.get_future().get();
}

std::string BackupOf(store::Store* store) {
  auto reader = transfer::BackupReader::Of(store);
  BP_HOLDS(reader.ok(), reader.status().ToString());
  std::string file;
  for (;;) {
    const auto piece = (*reader)->Next();
    BP_HOLDS(piece.ok(), piece.status().ToString());
    if (!piece->has_value()) return file;
    file += **piece;
  }
}

}  // namespace

Type BackupType(uint8_t kind) { return KindOf(kind) == kRecord ? TypeOfRecord(kind) : nullptr; }

void RunBackup(absl::string_view input) {
  const Program program = ReadProgram(input);
  const std::string file = FileOf(program);
  store::MemoryStore store;
  const absl::Status restored = Restore(&store, file, 1 + file.size() / (1 + program.size()));
  if (!restored.ok()) {
    BP_HOLDS(IsOneOf(restored,
                     {absl::StatusCode::kInvalidArgument, absl::StatusCode::kFailedPrecondition}),
             restored.ToString());
    BP_HOLDS(!restored.message().empty());
    const auto dropped = transfer::DropUnfinishedRestore(&store);
    BP_HOLDS(dropped.ok(), dropped.status().ToString());
    BP_HOLDS(Everything(&store).empty(), "a restore that failed leaves nothing");
    return;
  }
  const auto dropped = transfer::DropUnfinishedRestore(&store);
  BP_HOLDS(dropped.ok() && !*dropped, "a restore that succeeded is complete");
  store::MemoryStore again;
  const std::string second = BackupOf(&store);
  const absl::Status repeated = Restore(&again, second, second.size());
  BP_HOLDS(repeated.ok(), repeated.ToString());
  BP_HOLDS(Everything(&again) == Everything(&store));
}

Seeds BackupSeeds() {
  const Program records = RecordsOfAServer();
  Program old = records;
  old.insert(old.begin(), {kFormat << 6, "1"});
  const std::string file = BackupOfAServer();
  return {WriteProgram(records), WriteProgram(old), WriteProgram({{kRaw << 6, file}}),
          WriteProgram({{kFormat << 6, "3"}}), WriteProgram({{kPayload << 6, "x"}})};
}

}  // namespace backprop::fuzz
