// The records of a store as parts of a program: a kind and a message. Where the record belongs
// follows from its kind and from the parts before it.
#ifndef BACKPROP_TESTS_FUZZ_RECORD_KINDS_H_
#define BACKPROP_TESTS_FUZZ_RECORD_KINDS_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "server/records/keys.h"
#include "server/store/store.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/program.h"

namespace backprop::fuzz {

enum RecordKind : uint8_t {
  kModel,
  kState,
  kResponse,
  kRegistryResponse,
  kLoggedStep,
  kRun,
  kMark,
  kBestState,
  kFinishedRun,
  kTrainingRows,
  kValidationRows,
  kCheckpoint,
  kCheckpointState,
  kDataset,
  kDatasetRows,
  kRecordKinds  // how many there are
};

// The message of a record. `kind` may be any number.
Type TypeOfRecord(uint8_t kind);
// An empty message of that type.
std::unique_ptr<google::protobuf::Message> NewRecord(uint8_t kind);

// The parts of the latest model and dataset get the keys that belong to it. Thread-compatible.
class RecordPlaces {
 public:
  struct Place {
    const store::Table* table;
    std::string key;
  };
  // The place of the next record.
  Place Next(uint8_t kind, const google::protobuf::Message& message);

 private:
  records::Uid model_ = 1;
  records::Uid dataset_ = 2;
  uint64_t models_ = 0;
  uint64_t datasets_ = 0;
  uint8_t responses_ = 0;
  uint16_t registry_responses_ = 0;
  uint64_t step_ = 0;
  int64_t run_ = 1;
  uint32_t chunks_ = 0;
  uint64_t row_ = 0;
  std::string state_hash_ = std::string(16, 's');
};

// Size of the frame of a stored record (server/records/frame.h).
inline constexpr size_t kFrameBytes = 9;

// All records of a store as one program; the records of a model follow it, and so do those of a
// dataset.
Program ProgramOf(store::Store* store);

}  // namespace backprop::fuzz

#endif  // BACKPROP_TESTS_FUZZ_RECORD_KINDS_H_
