// The checkpoints of one model.
#ifndef BACKPROP_SERVER_SESSION_CHECKPOINTS_H_
#define BACKPROP_SERVER_SESSION_CHECKPOINTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "server/records/checkpoint.h"
#include "server/records/keys.h"
#include "server/store/store.h"

namespace backprop::session {

// The metadata of all checkpoints of a model. Their states are only in the store, where checkpoints
// with the same state share one record. Methods that change the checkpoints add the changes to
// `batch`, which the caller must commit. Thread-compatible.
class Checkpoints {
 public:
  // Loads the checkpoints of the model `uid` from the store. DATA_LOSS, naming `model`, if a record
  // is damaged.
  static absl::StatusOr<Checkpoints> Load(store::Store* store, records::Uid uid,
                                          const std::string& model);

  // Null if there is no checkpoint with that id.
  records::CheckpointPtr Find(const std::string& id) const;
  // Up to `count` checkpoints with ids greater than `after`, in the order of their ids.
  std::vector<records::CheckpointPtr> List(const std::string& after, size_t count) const;
  // Number of checkpoints, not counting the periodic ones of runs.
  int64_t lasting() const;
  bool empty() const { return all_.empty(); }
  // Approximate memory use in bytes, without the states, which are in the store.
  int64_t MemoryBytes() const {
    return static_cast<int64_t>(all_.size()) * (2 * int64_t{sizeof(records::Checkpoint)});
  }

  // Adds a checkpoint, and replaces one with the same id. `state` is the record of its state, as
  // encoded by EncodeState.
  records::CheckpointPtr Add(records::Uid uid, records::Checkpoint checkpoint, std::string state,
                             store::WriteBatch* batch);
  // Does nothing if there is no checkpoint with that id.
  void Remove(records::Uid uid, const std::string& id, store::WriteBatch* batch);
  // Removes the oldest periodic checkpoints until at most `count` are left.
  void KeepNewest(records::Uid uid, int64_t count, store::WriteBatch* batch);

 private:
  bool Holds(const std::string& state_hash) const;

  absl::btree_map<std::string, records::CheckpointPtr> all_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_CHECKPOINTS_H_
