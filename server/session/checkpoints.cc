#include "server/session/checkpoints.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "server/base/limits.h"
#include "server/base/text.h"
#include "server/records/checkpoint_records.h"
#include "server/records/rules.h"
#include "server/records/tables.h"

namespace backprop::session {
namespace {

// More than a model can have, of those of callers and of runs. Changes take time for each of them.
constexpr int64_t kMostStored = 8 * (base::kMaxCheckpoints + base::kMostKeptLast);

}  // namespace

absl::StatusOr<Checkpoints> Checkpoints::Load(store::Store* store, records::Uid uid,
                                              const std::string& model) {
  Checkpoints checkpoints;
  absl::Status status;
  const std::string prefix = records::CheckpointsKey(uid);
  absl::Status scanned = store->Scan(
      records::kCheckpoints, prefix, store::EndOfPrefix(prefix),
      [&](absl::string_view key, absl::string_view value) {
        auto checkpoint = records::DecodeCheckpoint(value, model);
        status = checkpoint.status();
        if (!status.ok()) return false;
        const std::string id = checkpoint->id;
        records::Rules rules(model);
        rules.Require(key == records::CheckpointKey(uid, id), "a checkpoint's id",
                      "the one in its key", base::Quote(id));
        rules.Between("number of checkpoints", int64_t{1} + std::ssize(checkpoints.all_), 1,
                      kMostStored);
        status = rules.status();
        if (!status.ok()) return false;
        checkpoints.all_[id] = std::make_shared<const records::Checkpoint>(*std::move(checkpoint));
        return true;
      });
  if (!scanned.ok()) return scanned;
  if (!status.ok()) return status;
  return checkpoints;
}

records::CheckpointPtr Checkpoints::Find(const std::string& id) const {
  const auto it = all_.find(id);
  return it == all_.end() ? nullptr : it->second;
}

std::vector<records::CheckpointPtr> Checkpoints::List(const std::string& after,
                                                      size_t count) const {
  std::vector<records::CheckpointPtr> list;
  for (auto it = all_.upper_bound(after); it != all_.end() && list.size() < count; ++it) {
    list.push_back(it->second);
  }
  return list;
}

int64_t Checkpoints::lasting() const {
  return std::count_if(all_.begin(), all_.end(),
                       [](const auto& entry) { return !entry.second->periodic(); });
}

bool Checkpoints::Holds(const std::string& state_hash) const {
  return std::any_of(all_.begin(), all_.end(),
                     [&](const auto& entry) { return entry.second->state_hash == state_hash; });
}

records::CheckpointPtr Checkpoints::Add(records::Uid uid, records::Checkpoint checkpoint,
                                        std::string state, store::WriteBatch* batch) {
  Remove(uid, checkpoint.id, batch);
  checkpoint.state_hash = records::HashOfState(state);
  checkpoint.size_bytes = static_cast<int64_t>(state.size());
  // After Remove, which may delete the same state: the operations of a batch are applied in order.
  if (!Holds(checkpoint.state_hash)) {
    batch->Put(records::kCheckpoints, records::CheckpointStateKey(uid, checkpoint.state_hash),
               std::move(state));
  }
  batch->Put(records::kCheckpoints, records::CheckpointKey(uid, checkpoint.id),
             records::EncodeCheckpoint(checkpoint));
  const std::string id = checkpoint.id;
  return all_[id] = std::make_shared<const records::Checkpoint>(std::move(checkpoint));
}

void Checkpoints::Remove(records::Uid uid, const std::string& id, store::WriteBatch* batch) {
  const auto it = all_.find(id);
  if (it == all_.end()) return;
  const std::string hash = it->second->state_hash;
  all_.erase(it);
  batch->Delete(records::kCheckpoints, records::CheckpointKey(uid, id));
  if (!Holds(hash)) batch->Delete(records::kCheckpoints, records::CheckpointStateKey(uid, hash));
}

void Checkpoints::KeepNewest(records::Uid uid, int64_t count, store::WriteBatch* batch) {
  std::vector<records::CheckpointPtr> periodic;
  for (const auto& [id, checkpoint] : all_) {
    if (checkpoint->periodic()) periodic.push_back(checkpoint);
  }
  std::sort(periodic.begin(), periodic.end(), [](const auto& a, const auto& b) {
    return std::tie(a->run, a->iteration) > std::tie(b->run, b->iteration);
  });
  for (size_t i = static_cast<size_t>(count); i < periodic.size(); ++i) {
    Remove(uid, periodic[i]->id, batch);
  }
}

}  // namespace backprop::session
