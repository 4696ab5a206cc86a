// The checkpoints of one model.
#ifndef BACKPROP_SERVER_SESSION_CHECKPOINTS_H_
#define BACKPROP_SERVER_SESSION_CHECKPOINTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/session/checkpoint.h"
#include "server/session/keys.h"
#include "server/store/store.h"

namespace backprop::store::v1 {
class Checkpoint;
}

namespace backprop::session {

// Knows them all; their numbers are in the store alone, once for all checkpoints with the same
// ones. Changes are added to batches of the caller's. Thread-compatible.
class Checkpoints {
 public:
  // Those that the store holds of the model `uid`; errors name `model`.
  static absl::StatusOr<Checkpoints> Load(store::Store* store, Uid uid, const std::string& model);

  // Null if there is none of that id.
  CheckpointPtr Find(const std::string& id) const;
  // Up to `count` whose id is greater than `after`, by id.
  std::vector<CheckpointPtr> List(const std::string& after, size_t count) const;
  // How many there are beside the periodic ones of runs.
  int64_t lasting() const;
  bool empty() const { return all_.empty(); }
  // What they hold in memory, about; their numbers are in the store.
  int64_t MemoryBytes() const {
    return static_cast<int64_t>(all_.size()) * (2 * int64_t{sizeof(Checkpoint)});
  }

  // Adds one, or replaces that of the same id. `state`: the record of its numbers.
  CheckpointPtr Add(Uid uid, Checkpoint checkpoint, std::string state, store::Batch* batch);
  void Remove(Uid uid, const std::string& id, store::Batch* batch);
  // Removes the oldest periodic ones until `count` are left.
  void KeepNewest(Uid uid, int64_t count, store::Batch* batch);

 private:
  bool Holds(const std::string& state_hash) const;

  std::map<std::string, CheckpointPtr> all_;
};

// Names the numbers of a state's record.
std::string HashOfState(const std::string& record);

void Encode(const Checkpoint& checkpoint, store::v1::Checkpoint* message);
Checkpoint Decode(const store::v1::Checkpoint& message);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_CHECKPOINTS_H_
