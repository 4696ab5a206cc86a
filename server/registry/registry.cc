#include "server/session/registry.h"

#include <xxhash.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/codec/spec_codec.h"
#include "server/engine/network.h"
#include "server/engine/spec.h"
#include "server/records/answer_records.h"
#include "server/records/model_records.h"
#include "server/records/run_events.h"
#include "server/records/tables.h"
#include "server/session/datasets.h"
#include "server/session/errors.h"
#include "server/session/loader.h"
#include "server/store/store.h"

namespace backprop::session {
namespace {

// 128 random bits from the operating system, in hexadecimal.
std::string UnguessableId() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(device(), absl::kZeroPad8));
  return id;
}

absl::Status AlreadyExists(const std::string& id) {
  return base::ReasonError(absl::StatusCode::kAlreadyExists,
                           absl::StrCat("models/", id, ": exists already"),
                           {"MODEL_EXISTS", {{"model", absl::StrCat("models/", id)}}});
}

using Labels = std::map<std::string, std::string>;

bool HasLabels(const Labels& all, const Labels& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& label) {
    const auto it = all.find(label.first);
    return it != all.end() && it->second == label.second;
  });
}

int64_t ValueCount(const engine::Network& network) {
  return network.parameter_count() * (1 + network.slot_count());
}

// Adds to a counter unless the sum would exceed the limit.
bool AddWithin(std::atomic<int64_t>* counter, int64_t amount, int64_t limit) {
  if (counter->fetch_add(amount) + amount <= limit) return true;
  counter->fetch_sub(amount);
  return false;
}

}  // namespace

Registry::Shard& Registry::ShardOf(absl::string_view key) {
  // The same in every process, because responses are stored by shard.
  return shards_[XXH3_64bits(key.data(), key.size()) % shards_.size()];
}

std::shared_ptr<Session> Registry::Lookup(absl::string_view id) {
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  const auto it = shard.models.find(id);
  return it == shard.models.end() ? nullptr : it->second;
}

// Null if there is no such model. If the store rejected a change of a session, replaces it by the
// stored model.
absl::StatusOr<std::shared_ptr<Session>> Registry::FindOrLoad(absl::string_view id) {
  if (environment_->restoring) return Restoring();
  auto session = Lookup(id);
  if (environment_->store == nullptr) return session;
  if (session != nullptr && !session->broken()) return session;
  // While the store does not work, it is unknown which of the rejected changes it holds. The
  // session in memory can still be read.
  if (session != nullptr && !environment_->store->health().ok()) return session;
  Shard& shard = ShardOf(id);
  const base::MutexLock load_lock(&shard.load_mu);
  {
    const base::MutexLock lock(&shard.mu);
    const auto it = shard.models.find(id);
    if (it != shard.models.end()) {
      if (!it->second->broken()) return it->second;
      shard.models.erase(it);
    }
    if (shard.deleting.find(id) != shard.deleting.end()) return nullptr;
  }
  auto loaded = LoadSession(environment_, id);
  if (!loaded.ok()) return loaded;
  {
    const base::MutexLock lock(&shard.mu);
    // If there was none, it may have been created meanwhile.
    if (*loaded == nullptr) {
      const auto it = shard.models.find(id);
      return it == shard.models.end() ? nullptr : it->second;
    }
    shard.models.insert_or_assign(std::string(id), *loaded);
    Hold(&shard, *loaded);
  }
  EvictBeyondLimit();
  return loaded;
}

absl::StatusOr<std::shared_ptr<Session>> Registry::Find(absl::string_view id) {
  if (environment_->draining) return ShuttingDown();
  auto session = FindOrLoad(id);
  if (!session.ok()) return session;
  if (*session == nullptr) return ModelNotFound(absl::StrCat("models/", id));
  (*session)->Touch();
  return session;
}

// Finds the model that the first call of a retry created, if any. Otherwise sets the id, which is
// the same for all retries.
absl::StatusOr<Registry::Reservation> Registry::Reserve(CreateArgs* args) {
  Reservation reservation;
  if (args->key.id.empty()) {
    if (args->info.id.empty()) args->info.id = UnguessableId();
    return reservation;
  }
  Creation creation;
  {
    Shard& shard = ShardOf(args->key.id);
    const base::MutexLock lock(&shard.mu);
    const absl::Time now = environment_->clock->Now();
    const auto found = shard.creations.Find(args->key, now);
    if (!found.ok()) return found.status();
    if (*found == nullptr) {
      if (args->info.id.empty()) args->info.id = UnguessableId();
      reservation.time = now;
      reservation.sequence = shard.creations.Record(args->key, now, {args->info.id, false});
      return reservation;
    }
    creation = (*found)->response;
    reservation.time = (*found)->time;
    reservation.sequence = (*found)->sequence;
  }
  args->info.id = creation.id;
  if (!creation.done) return reservation;  // failed or still active: Insert decides
  auto session = FindOrLoad(creation.id);
  if (!session.ok()) return session.status();
  if (*session == nullptr || (*session)->created_by().id != args->key.id) {
    return ModelDeleted(absl::StrCat("models/", creation.id));
  }
  reservation.existing = *std::move(session);
  return reservation;
}

absl::Status Registry::ReserveQuota(int64_t value_count) {
  const base::Limits& limits = environment_->limits;
  if (!AddWithin(&models_, 1, limits.max_models)) {
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("the server holds ", limits.max_models, " models already, which is its limit"),
        {"LIMIT_EXCEEDED", {{"limit", "max_models"}}});
  }
  if (!AddWithin(&parameters_, value_count, limits.max_total_parameters)) {
    models_.fetch_sub(1);
    return base::ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("the model's ", value_count, " numbers would exceed the server's limit of ",
                     limits.max_total_parameters, " over all models"),
        {"LIMIT_EXCEEDED", {{"limit", "max_total_parameters"}}});
  }
  return absl::OkStatus();
}

// Claims memory for a new model of `bytes` bytes. Until it is stored its numbers are in memory
// twice. Without a store it cannot be evicted, so it must fit into the room for models.
absl::StatusOr<MemoryBudget::Claim> Registry::AskForMemory(int64_t bytes,
                                                           const std::string& model) {
  if (environment_->store != nullptr) return environment_->memory.AskForWork(bytes, model);
  const absl::Status fits = environment_->memory.CheckModel(bytes + base::kSessionBytes, model);
  if (!fits.ok()) return fits;
  return MemoryBudget::Claim();
}

void Registry::ReleaseQuota(int64_t value_count) {
  models_.fetch_sub(1);
  parameters_.fetch_sub(value_count);
}

void Registry::Create(CreateArgs args, Created done) {
  if (environment_->draining) return done(ShuttingDown());
  // If the model exists, `done` is called when it is stored.
  const auto answer_existing = [&done](const std::shared_ptr<Session>& session) {
    session->WhenStored([session, done = std::move(done)](const absl::Status& status) mutable {
      if (!status.ok()) return done(NotStored(session->name(), status));
      done(session);
    });
  };
  const auto reservation = Reserve(&args);
  if (!reservation.ok()) return done(reservation.status());
  absl::StatusOr<std::shared_ptr<Session>> existing = reservation->existing;
  if (*existing == nullptr) existing = FindOrLoad(args.info.id);
  if (!existing.ok()) return done(existing.status());
  const auto is_ours = [&](const Session& session) {
    return !args.key.id.empty() && session.created_by().id == args.key.id;
  };
  if (*existing != nullptr) {
    if (is_ours(**existing)) return answer_existing(*existing);
    return done(AlreadyExists(args.info.id));
  }
  const int64_t value_count = ValueCount(*args.network);
  const absl::Status room = ReserveQuota(value_count);
  if (!room.ok()) return done(room);
  const int64_t bytes = value_count * engine::SizeOf(args.network->spec().data_type);
  auto memory = AskForMemory(bytes, absl::StrCat("models/", args.info.id));
  if (!memory.ok()) {
    ReleaseQuota(value_count);
    return done(memory.status());
  }
  if (environment_->restoring) {  // after ReserveQuota: a restore sets this, then looks for models
    ReleaseQuota(value_count);
    return done(Restoring());
  }
  std::string spec;
  if (environment_->store != nullptr) {
    spec = codec::EncodeSpecRecord(args.network->spec(), args.info.class_names,
                                   args.info.feature_names);
  }
  store::WriteBatch record = CreationRecord(args, *reservation);
  // Called before other threads can find the new session, so that changes of it are stored later.
  const auto store_it = [&](const std::shared_ptr<Session>& session) {
    if (environment_->store == nullptr) return;
    session->StoreCreation(
        std::move(spec), std::move(record),
        [this, session = std::shared_ptr<Session>(session), key = args.key,
         memory = *std::move(memory),
         done = std::exchange(done, nullptr)](const absl::Status& status) mutable {
          memory = {};
          if (status.ok()) {
            SettleCreation(key, session->info().id);
            done(session);
            // Stored models can be evicted; this one can after its caller was answered.
            session = nullptr;
            return EvictBeyondLimit();
          }
          Remove(session, Removal::kNeverStored);
          session->StopRun(records::StopReason::kModelDeleted, ModelDeleted(session->name()));
          done(NotStored(session->name(), status));
        });
  };
  const auto session = Insert(&args, store_it);
  if (!session.ok()) {
    ReleaseQuota(value_count);
    return done(session.status());
  }
  if (&(*session)->network() != args.network.get()) {  // another caller created it first
    ReleaseQuota(value_count);
    if (is_ours(**session)) return answer_existing(*session);
    return done(AlreadyExists((*session)->info().id));
  }
  if (environment_->store != nullptr) return;
  SettleCreation(args.key, (*session)->info().id);
  done(*session);
}

// Returns the existing session, or the new one, for which `inserted` is called first.
absl::StatusOr<std::shared_ptr<Session>> Registry::Insert(
    CreateArgs* args, absl::FunctionRef<void(const std::shared_ptr<Session>&)> inserted) {
  auto initial = args->initial();
  if (!initial.ok()) return initial.status();
  SessionStart start;
  const std::string id = args->info.id;
  start.info = std::move(args->info);
  start.network = args->network;
  start.created_at_step = (*initial)->step;
  start.state = *std::move(initial);
  start.create_time = environment_->clock->Now();
  start.created_by = args->key;
  start.uid = records::DrawUid();
  if (environment_->store != nullptr) {
    start.journal.emplace(environment_->store, start.uid, args->durability);
  }
  auto session = std::make_shared<Session>(environment_, std::move(start));
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  const auto [it, is_new] = shard.models.try_emplace(id, session);
  if (is_new) {
    Hold(&shard, session);
    inserted(session);
  }
  return it->second;
}

// From now on a retry gets the model with that id, or MODEL_DELETED if it was deleted.
void Registry::SettleCreation(const records::RequestKey& key, const std::string& id) {
  if (key.id.empty()) return;
  Shard& shard = ShardOf(key.id);
  const base::MutexLock lock(&shard.mu);
  shard.creations.Update(key, {id, true});
}

// The same as a record of the store; empty if there is no store or no request id.
store::WriteBatch Registry::CreationRecord(const CreateArgs& args, const Reservation& reservation) {
  store::WriteBatch batch;
  if (args.key.id.empty() || environment_->store == nullptr) return batch;
  batch.Put(records::kRequests,
            records::RegistryAnswerKey(records::RegistryAnswerKind::kCreate,
                                       IndexOf(ShardOf(args.key.id)),
                                       RegistryLedger<Creation>::PlaceOf(reservation.sequence)),
            records::EncodeRegistryAnswer(
                {args.key, reservation.time, reservation.sequence, args.info.id}));
  return batch;
}

// Removes a session from the map. Returns whether it was there. A stored model is not loaded again
// until its records are deleted.
bool Registry::Remove(const std::shared_ptr<Session>& session, Removal removal) {
  Shard& shard = ShardOf(session->info().id);
  {
    const base::MutexLock lock(&shard.mu);
    const auto it = shard.models.find(session->info().id);
    if (it == shard.models.end() || it->second != session) return false;
    shard.models.erase(it);
    if (removal == Removal::kStored && session->journal() != nullptr) {
      ++shard.deleting[session->info().id];
    }
  }
  ReleaseQuota(ValueCount(session->network()));
  return true;
}

void Registry::RemoveStored(const std::shared_ptr<Session>& session,
                            store::WriteBatch registry_part, store::Store::Done done) {
  if (!Remove(session, Removal::kStored)) return done(ModelNotFound(session->name()));
  session->Close(std::move(registry_part),
                 [this, session, done = std::move(done)](const absl::Status& status) mutable {
                   if (session->journal() != nullptr) {
                     Shard& shard = ShardOf(session->info().id);
                     const base::MutexLock lock(&shard.mu);
                     const auto it = shard.deleting.find(session->info().id);
                     if (--it->second == 0) shard.deleting.erase(it);
                   }
                   if (status.ok()) return done(status);
                   // It is still in the store.
                   models_.fetch_add(1);
                   parameters_.fetch_add(ValueCount(session->network()));
                   done(NotStored(session->name(), status));
                 });
}

void Registry::Delete(absl::string_view id, const records::RequestKey& key, Done done) {
  if (environment_->draining) return done(ShuttingDown());
  const auto repeated = IsRepeatedDeletion(key);
  if (!repeated.ok()) return done(repeated.status());
  if (*repeated) return AnswerRepeatedDeletion(std::move(done));
  auto session = FindOrLoad(id);
  const bool damaged = absl::IsDataLoss(session.status());
  if (!session.ok() && !damaged) return done(session.status());
  if (!damaged && *session == nullptr) return done(ModelNotFound(absl::StrCat("models/", id)));
  auto record = RecordDeletion(key);
  if (!record.ok()) return done(record.status());
  if (!record->has_value()) return AnswerRepeatedDeletion(std::move(done));
  Done ended = [this, key, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) DropDeletion(key);
    done(status);
  };
  if (damaged) return DeleteDamaged(id, **std::move(record), std::move(ended));
  RemoveStored(*session, **std::move(record), std::move(ended));
}

absl::StatusOr<bool> Registry::IsRepeatedDeletion(const records::RequestKey& key) {
  Shard& shard = ShardOf(key.id);
  const base::MutexLock lock(&shard.mu);
  const auto found = shard.deletions.Find(key, environment_->clock->Now());
  if (!found.ok()) return found.status();
  return *found != nullptr;
}

// Remembers a deletion that begins, and returns its record, which is empty without a request id.
// Returns nothing if the same request has recorded it meanwhile.
absl::StatusOr<std::optional<store::WriteBatch>> Registry::RecordDeletion(
    const records::RequestKey& key) {
  store::WriteBatch batch;
  if (key.id.empty()) return batch;
  Shard& shard = ShardOf(key.id);
  const base::MutexLock lock(&shard.mu);
  const absl::Time now = environment_->clock->Now();
  const auto found = shard.deletions.Find(key, now);
  if (!found.ok()) return found.status();
  if (*found != nullptr) return std::nullopt;
  const uint64_t sequence = shard.deletions.Record(key, now, {});
  batch.Put(records::kRequests,
            records::RegistryAnswerKey(records::RegistryAnswerKind::kDelete, IndexOf(shard),
                                       RegistryLedger<std::monostate>::PlaceOf(sequence)),
            records::EncodeRegistryAnswer({key, now, sequence, ""}));
  return batch;
}

void Registry::DropDeletion(const records::RequestKey& key) {
  if (key.id.empty()) return;
  Shard& shard = ShardOf(key.id);
  const base::MutexLock lock(&shard.mu);
  shard.deletions.Drop(key);
}

// A retry gets its response when the deletion, which was passed to the store earlier, is stored.
void Registry::AnswerRepeatedDeletion(Done done) {
  if (environment_->store == nullptr) return done(absl::OkStatus());
  environment_->store->Commit({}, store::Durability::kSync, nullptr, std::move(done));
}

// Deletes what can be found of a model that cannot be loaded.
void Registry::DeleteDamaged(absl::string_view id, store::WriteBatch batch, Done done) {
  const auto value = environment_->store->Get(records::kModels, id);
  if (!value.ok()) return done(value.status());
  int64_t value_count = 0;
  if (value->has_value()) {
    if (const auto model = records::DecodeModel(**value, id); model.ok()) {
      value_count = model->value_count;
      const std::string prefix = records::UidKey(model->uid);
      batch.Delete(records::kStates, prefix);
      for (const store::Table* table :
           {&records::kRequests, &records::kLog, &records::kChunks, &records::kCheckpoints}) {
        batch.DeletePrefix(*table, prefix);
      }
      for (const records::RunPart part : records::kRunParts) {
        batch.Delete(records::kRuns, records::RunKey(model->uid, part));
      }
    }
  }
  batch.Delete(records::kModels, std::string(id));
  environment_->store->Commit(std::move(batch), store::Durability::kSync, nullptr,
                              [this, value_count, name = absl::StrCat("models/", id),
                               done = std::move(done)](const absl::Status& status) mutable {
                                if (!status.ok()) return done(NotStored(name, status));
                                ReleaseQuota(value_count);
                                done(status);
                              });
}

absl::StatusOr<std::vector<std::string>> Registry::StoredIds(absl::string_view after, size_t count,
                                                             const Labels& labels) {
  std::vector<std::string> ids;
  const std::string first = absl::StrCat(after, absl::string_view("\0", 1));
  absl::Status scanned = environment_->store->Scan(
      records::kModels, after.empty() ? absl::string_view() : absl::string_view(first), "",
      [&](absl::string_view id, absl::string_view value) {
        if (!labels.empty()) {
          const auto model = records::DecodeModel(value, id);
          if (!model.ok() || !HasLabels(model->labels, labels)) return true;
        }
        ids.emplace_back(id);
        return ids.size() < count;
      });
  if (!scanned.ok()) return scanned;
  return ids;
}

absl::StatusOr<std::vector<std::shared_ptr<Session>>> Registry::List(absl::string_view after,
                                                                     size_t count,
                                                                     const Labels& labels) {
  if (environment_->restoring) return Restoring();
  std::vector<std::shared_ptr<Session>> all;
  if (environment_->store != nullptr) {
    // Repeats until there are enough, because some cannot be loaded or are being deleted.
    for (std::string last(after); all.size() < count;) {
      const size_t wanted = count - all.size();
      const auto ids = StoredIds(last, wanted, labels);
      if (!ids.ok()) return ids.status();
      for (const std::string& id : *ids) {
        auto session = FindOrLoad(id);
        if (session.ok() && *session != nullptr) all.push_back(*std::move(session));
      }
      if (ids->size() < wanted) break;
      last = ids->back();
    }
    return all;
  }
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    size_t taken = 0;
    for (auto it = shard.models.upper_bound(after); it != shard.models.end() && taken < count;
         ++it) {
      if (!HasLabels(it->second->info().labels, labels)) continue;
      all.push_back(it->second);
      ++taken;
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a->info().id < b->info().id; });
  if (all.size() > count) all.resize(count);
  return all;
}

void Registry::Drain() {
  environment_->draining = true;
  if (environment_->datasets != nullptr) environment_->datasets->Stop();
  for (Shard& shard : shards_) {
    std::vector<std::shared_ptr<Session>> sessions;
    {
      const base::MutexLock lock(&shard.mu);
      for (const auto& [id, session] : shard.models) sessions.push_back(session);
    }
    for (const auto& session : sessions) {
      session->StopRun(records::StopReason::kServerShutdown, ShuttingDown());
    }
  }
}

}  // namespace backprop::session
