#include "server/session/metered_store.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/codec/spec_codec.h"
#include "server/engine/spec.h"
#include "server/records/checkpoint_records.h"
#include "server/records/dataset_info.h"
#include "server/records/model_records.h"
#include "server/records/project.h"

namespace backprop::session {
namespace {

using store::Table;
using store::WriteBatch;

constexpr size_t kUidBytes = sizeof(records::Uid);
constexpr size_t kRunBytes = sizeof(int64_t);  // of the number of a run in the key of its rows

records::Uid UidOf(absl::string_view bytes) {
  records::Uid uid = 0;
  for (const char byte : bytes.substr(0, kUidBytes)) {
    uid = (uid << 8) | static_cast<unsigned char>(byte);
  }
  return uid;
}

// The tables whose records count one by one. That of steps is counted as a whole.
bool Counts(const Table& table) {
  for (const Table* counted : {&records::kRequests, &records::kLog, &records::kRuns,
                               &records::kChunks, &records::kCheckpoints}) {
    if (counted->number == table.number) return true;
  }
  return false;
}

// Where in a key of the table the uid begins.
size_t UidAt(const Table& table) { return table.number == records::kRuns.number ? 1 : 0; }

bool HasUid(const Table& table, absl::string_view key) {
  return key.size() >= UidAt(table) + kUidBytes;
}

std::string PartOf(const Table& table, absl::string_view key) {
  if (UidAt(table) > 0) return std::string(key.substr(0, UidAt(table)));
  return std::string(key.substr(kUidBytes));
}

int64_t ValueBytes(const records::StoredModel& model) {
  if (model.value_bytes > 0) return model.value_bytes;
  const auto spec = codec::DecodeSpecRecord(model.spec);  // of an older record
  const auto type = spec.ok() ? spec->spec.data_type : engine::DataType::kFloat32;
  return model.value_count * engine::SizeOf(type);
}

std::string RecordKey(uint8_t table, absl::string_view part) {
  return absl::StrCat(std::string(1, static_cast<char>(table)), part);
}

}  // namespace

MeteredStore::MeteredStore(store::Store* store, Projects* projects,
                           std::function<void(const std::string&)> on_warning)
    : store_(store), projects_(projects), on_warning_(std::move(on_warning)) {}

MeteredStore::~MeteredStore() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

absl::Status MeteredStore::Open() {
  for (const Table* table : {&records::kModels, &records::kDatasets}) {
    absl::Status scanned =
        store_->Scan(*table, "", "", [&](absl::string_view key, absl::string_view value) {
          const auto effect = DescriptionEffect(
              {WriteBatch::Kind::kPut, table, std::string(key), std::string(value)});
          if (effect.has_value()) Apply({*effect});
          return true;
        });
    if (!scanned.ok()) return scanned;
  }
  auto snapshot = store_->TakeSnapshot();
  if (!snapshot.ok()) return snapshot.status();
  snapshot_ = *std::move(snapshot);
  thread_ = std::thread([this] { CountSnapshot(); });
  return absl::OkStatus();
}

void MeteredStore::Commit(WriteBatch batch, store::Durability durability,
                          std::shared_ptr<store::Chain> chain, Done done) {
  std::vector<Effect> effects;
  for (const WriteBatch::Op& op : batch.ops()) {
    if (auto effect = EffectOf(op)) effects.push_back(*std::move(effect));
  }
  if (!effects.empty()) {
    done = [this, effects = std::move(effects),
            done = std::move(done)](const absl::Status& status) mutable {
      if (status.ok()) Apply(effects);
      done(status);
    };
  }
  store_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
}

std::optional<MeteredStore::Effect> MeteredStore::DescriptionEffect(
    const WriteBatch::Op& op) const {
  Effect effect{Effect::Kind::kOwner};
  effect.bytes = static_cast<int64_t>(op.key.size() + op.value.size());
  if (op.table->number == records::kModels.number) {
    const auto model = records::DecodeModel(op.value, op.key);
    if (!model.ok()) return std::nullopt;  // damaged: it can only be deleted
    effect.uid = model->uid;
    effect.bytes += ValueBytes(*model);
  } else {
    const auto dataset = records::DecodeDataset(op.value, op.key);
    if (!dataset.ok()) return std::nullopt;
    effect.uid = dataset->uid;
    effect.bytes += dataset->size_bytes;
  }
  effect.project = projects_->Of(records::ProjectOf(op.key));
  return effect;
}

std::optional<MeteredStore::Effect> MeteredStore::EffectOf(const WriteBatch::Op& op) const {
  const Table& table = *op.table;
  const bool puts = op.kind == WriteBatch::Kind::kPut;
  const bool describes =
      table.number == records::kModels.number || table.number == records::kDatasets.number;
  if (op.kind == WriteBatch::Kind::kDeletePrefix && op.key.empty()) {
    return Effect{Effect::Kind::kAllEnd};  // only a restore deletes a whole table, and then all
  }
  if (describes) return puts ? DescriptionEffect(op) : std::nullopt;
  if (!HasUid(table, op.key)) return std::nullopt;
  Effect effect{Effect::Kind::kPut, UidOf(absl::string_view(op.key).substr(UidAt(table)))};
  if (effect.uid == 0) return std::nullopt;  // the server's
  // Both are deleted only with the model or the dataset.
  if (table.number == records::kStates.number || table.number == records::kDatasetRows.number) {
    effect.kind = Effect::Kind::kOwnerEnds;
    return puts ? std::nullopt : std::make_optional(effect);
  }
  if (!Counts(table)) return std::nullopt;
  effect.table = table.number;
  effect.part = PartOf(table, op.key);
  if (puts) {
    effect.bytes = static_cast<int64_t>(op.key.size() + op.value.size());
  } else {
    effect.kind =
        op.kind == WriteBatch::Kind::kDelete ? Effect::Kind::kDelete : Effect::Kind::kDeletePrefix;
  }
  return effect;
}

void MeteredStore::Add(Owner* owner, int64_t bytes) {
  owner->bytes += bytes;
  owner->project->Count(Resource::kStoredBytes, bytes);
}

void MeteredStore::End(Owner* owner) {
  owner->project->Release(Resource::kStoredBytes, owner->bytes);
}

void MeteredStore::Apply(const std::vector<Effect>& effects) {
  const base::MutexLock lock(&mu_);
  for (const Effect& effect : effects) {
    if (effect.kind == Effect::Kind::kAllEnd) {
      for (auto& [uid, owner] : owners_) End(&owner);
      owners_.clear();
      continue;
    }
    if (effect.kind == Effect::Kind::kOwner) {
      Owner& owner = owners_[effect.uid];
      owner.project = effect.project;
      Add(&owner, effect.bytes - owner.description);
      owner.description = effect.bytes;
      continue;
    }
    const auto found = owners_.find(effect.uid);
    if (found == owners_.end()) continue;  // deleted, or it is only in memory
    if (effect.kind == Effect::Kind::kOwnerEnds) {
      End(&found->second);
      owners_.erase(found);
      continue;
    }
    ApplyTo(&found->second, effect);
  }
}

void MeteredStore::ApplyTo(Owner* owner, const Effect& effect) {
  const bool puts = effect.kind == Effect::Kind::kPut;
  if (effect.table == records::kLog.number) {
    if (!puts) {
      Add(owner, -std::exchange(owner->steps, 0));
      owner->steps_ended = true;
      return;
    }
    owner->steps += effect.bytes;
    return Add(owner, effect.bytes);
  }
  if (effect.kind == Effect::Kind::kDeletePrefix) return EraseRecords(owner, effect);
  SetRecord(owner, effect, puts ? static_cast<uint32_t>(effect.bytes) : 0);
}

void MeteredStore::SetRecord(Owner* owner, const Effect& effect, uint32_t bytes) {
  if (effect.table == records::kRequests.number) {
    if (effect.part.empty()) return;
    const size_t place = static_cast<unsigned char>(effect.part[0]);
    if (place >= owner->responses.size()) owner->responses.resize(place + 1);
    const uint32_t before = std::exchange(owner->responses[place], bytes);
    return Add(owner, int64_t{bytes} - int64_t{before});
  }
  if (owner->records == nullptr) {
    owner->records = std::make_unique<absl::flat_hash_map<std::string, uint32_t>>();
  }
  const std::string key = RecordKey(effect.table, effect.part);
  uint32_t& entry = (*owner->records)[key];
  Add(owner, int64_t{bytes} - int64_t{entry});
  entry = bytes;
  if (bytes == 0 && complete_) owner->records->erase(key);
}

void MeteredStore::EraseRecords(Owner* owner, const Effect& effect) {
  if (effect.table == records::kRequests.number) {
    for (uint32_t& bytes : owner->responses) Add(owner, -int64_t{std::exchange(bytes, 0)});
    return;
  }
  const std::string prefix = RecordKey(effect.table, effect.part);
  if (owner->records != nullptr) {
    absl::erase_if(*owner->records, [&](const auto& entry) {
      if (!absl::StartsWith(entry.first, prefix)) return false;
      Add(owner, -int64_t{entry.second});
      return true;
    });
  }
  // Records of the snapshot with this prefix are gone.
  if (!complete_) SetRecord(owner, effect, 0);
}

// What was stored before Open().

void MeteredStore::Found(const Effect& effect) {
  const base::MutexLock lock(&mu_);
  const auto found = owners_.find(effect.uid);
  if (found == owners_.end()) return;
  Owner& owner = found->second;
  if (effect.table == records::kLog.number) {
    if (!owner.steps_ended) ApplyTo(&owner, effect);
    return;
  }
  if (effect.table == records::kRequests.number) {
    const size_t place = effect.part.empty() ? 0 : static_cast<unsigned char>(effect.part[0]);
    if (place < owner.responses.size() && owner.responses[place] > 0) return;
    return ApplyTo(&owner, effect);
  }
  if (owner.records != nullptr) {
    const auto& records = *owner.records;
    const std::string of_run =
        RecordKey(effect.table, absl::string_view(effect.part).substr(0, kRunBytes));
    if (records.contains(RecordKey(effect.table, effect.part))) return;
    if (effect.table == records::kChunks.number && records.contains(of_run)) return;
  }
  ApplyTo(&owner, effect);
}

absl::Status MeteredStore::CountTable(const Table& table) {
  return snapshot_->Scan(table, "", "", [&](absl::string_view key, absl::string_view value) {
    if (HasUid(table, key)) {
      Found({Effect::Kind::kPut, UidOf(key.substr(UidAt(table))), table.number, PartOf(table, key),
             static_cast<int64_t>(key.size() + value.size())});
    }
    return !stop_;
  });
}

// Reads the descriptions of checkpoints, and not their states, whose size the descriptions have.
absl::Status MeteredStore::CountCheckpoints() {
  const Table& table = records::kCheckpoints;
  for (std::string next; !stop_;) {
    std::optional<std::string> first;
    absl::Status scanned = snapshot_->Scan(table, next, "", [&](absl::string_view key, auto) {
      first = std::string(key);
      return false;
    });
    if (!scanned.ok() || !first.has_value()) return scanned;
    if (!HasUid(table, *first)) {  // only in a forged record
      next = absl::StrCat(*first, absl::string_view("\0", 1));
      continue;
    }
    const records::Uid uid = UidOf(*first);
    const std::string prefix = records::CheckpointsKey(uid);
    scanned = snapshot_->Scan(
        table, prefix, store::EndOfPrefix(prefix),
        [&](absl::string_view key, absl::string_view value) {
          const auto bytes = static_cast<int64_t>(key.size() + value.size());
          Found({Effect::Kind::kPut, uid, table.number, PartOf(table, key), bytes});
          const auto checkpoint = records::DecodeCheckpoint(value, "");
          if (!checkpoint.ok()) return true;
          const std::string state = records::CheckpointStateKey(uid, checkpoint->state_hash);
          Found({Effect::Kind::kPut, uid, table.number, PartOf(table, state),
                 static_cast<int64_t>(state.size()) + checkpoint->size_bytes});
          return true;
        });
    if (!scanned.ok()) return scanned;
    next = store::EndOfPrefix(records::UidKey(uid));
    if (next.empty()) break;
  }
  return absl::OkStatus();
}

void MeteredStore::CountSnapshot() {
  absl::Status counted = CountCheckpoints();
  for (const Table* table :
       {&records::kRequests, &records::kRuns, &records::kChunks, &records::kLog}) {
    if (counted.ok() && !stop_) counted = CountTable(*table);
  }
  snapshot_.reset();
  if (!counted.ok() && on_warning_) {
    on_warning_(absl::StrCat("stored_bytes of projects are too low until the next start, because ",
                             "stored records could not be read: ", counted.message()));
  }
  const base::MutexLock lock(&mu_);
  complete_ = true;
  for (auto& [uid, owner] : owners_) {
    if (owner.records == nullptr) continue;
    absl::erase_if(*owner.records, [](const auto& entry) { return entry.second == 0; });
  }
}

}  // namespace backprop::session
