// Keys of records in the store; docs/durability.md has the table.
#ifndef BACKPROP_SERVER_RECORDS_KEYS_H_
#define BACKPROP_SERVER_RECORDS_KEYS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace backprop::records {

// Drawn at random for each created model or dataset, never 0. If one is created again with the id
// of an old one, it does not see the records of the old one.
using Uid = uint64_t;
Uid DrawUid();  // thread-safe

// Big-endian, so that keys sort in the order of the numbers.
template <class Number>
inline std::string BigEndian(Number number) {
  std::string bytes(sizeof number, '\0');
  for (size_t i = 0; i < sizeof number; ++i) {
    bytes[i] = static_cast<char>(number >> (8 * (sizeof number - 1 - i)));
  }
  return bytes;
}

// Prefix of all keys of a model or dataset, except in tables models, datasets and runs.
inline std::string UidKey(Uid uid) { return BigEndian(uid); }

inline std::string ResponseKey(Uid uid, uint8_t place) {
  return UidKey(uid) + static_cast<char>(place);
}

inline std::string LoggedStepKey(Uid uid, int64_t step) {
  return UidKey(uid) + BigEndian(static_cast<uint64_t>(step));
}

// The step of such a key.
int64_t StepOfLoggedStepKey(absl::string_view key);

enum class RunPart : char { kRun = 'r', kMark = 'm', kBest = 'b', kFinished = 'f' };
// In the order of their keys.
inline constexpr RunPart kRunParts[] = {RunPart::kBest, RunPart::kFinished, RunPart::kMark,
                                        RunPart::kRun};
// The part is first, so that the active runs of all models are adjacent.
inline std::string RunKey(Uid uid, RunPart part) { return static_cast<char>(part) + UidKey(uid); }

inline std::string CheckpointsKey(Uid uid) { return UidKey(uid) + 'i'; }
inline std::string CheckpointKey(Uid uid, const std::string& id) {
  return CheckpointsKey(uid) + id;
}
inline std::string CheckpointStateKey(Uid uid, const std::string& hash) {
  return UidKey(uid) + 's' + hash;
}

enum class RowsOf : char { kTraining = 't', kValidation = 'v' };
inline std::string ChunksKey(Uid uid, int64_t run) {
  return UidKey(uid) + BigEndian(static_cast<uint64_t>(run));
}
inline std::string ChunkKey(Uid uid, int64_t run, RowsOf rows, uint32_t chunk) {
  return ChunksKey(uid, run) + static_cast<char>(rows) + BigEndian(chunk);
}

// Key of the rows of a dataset that start at `first_row`.
inline std::string DatasetRowsKey(Uid uid, int64_t first_row) {
  return UidKey(uid) + BigEndian(static_cast<uint64_t>(first_row));
}

enum class RegistryRequestKind : char { kCreate = 'c', kDelete = 'd', kDeleteDataset = 'x' };
// Prefix of the keys of all responses of one kind.
inline std::string RegistryResponsesKey(RegistryRequestKind kind) {
  return UidKey(Uid{0}) + static_cast<char>(kind);
}
inline std::string RegistryResponseKey(RegistryRequestKind kind, uint8_t shard, uint16_t place) {
  return RegistryResponsesKey(kind) + static_cast<char>(shard) + BigEndian(place);
}

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_KEYS_H_
