// How a registry deletes models.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/records/keys.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/tables.h"
#include "server/registry/registry.h"
#include "server/session/errors.h"
#include "server/store/store.h"

namespace backprop::registry {

void Registry::Delete(absl::string_view id, const records::RequestKey& key, Done done) {
  if (environment_->draining) return done(session::ShuttingDown());
  const auto repeated = IsRepeatedDeletion(key);
  if (!repeated.ok()) return done(repeated.status());
  if (*repeated) return RespondToRepeatedDeletion(id, key, std::move(done));
  if (environment_->restoring) return done(session::Restoring());
  if (auto resident = cache_.FindResident(id); resident.has_value()) {
    return DeleteFound(std::string(id), key, *std::move(resident), std::move(done));
  }
  cache_.Load(id, [this, id = std::string(id), key,
                   done = std::move(done)](const MaybeSession& session) mutable {
    DeleteFound(id, key, session, std::move(done));
  });
}

void Registry::DeleteFound(const std::string& id, const records::RequestKey& key,
                           const MaybeSession& session, Done done) {
  const bool damaged = absl::IsDataLoss(session.status());
  if (!session.ok() && !damaged) return done(session.status());
  if (!damaged && *session == nullptr) {
    // Again, because the first attempt of the same request may have deleted the model meanwhile.
    const auto repeated = IsRepeatedDeletion(key);
    if (!repeated.ok()) return done(repeated.status());
    if (*repeated) return RespondToRepeatedDeletion(id, key, std::move(done));
    return done(session::ModelNotFound(records::ModelName(id)));
  }
  auto record = RecordDeletion(key);
  if (!record.ok()) return done(record.status());
  if (!record->has_value()) return RespondToRepeatedDeletion(id, key, std::move(done));
  Done ended = [this, key, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) DropDeletion(key);
    done(status);
  };
  if (damaged) return DeleteDamaged(id, **std::move(record), std::move(ended));
  RemoveStored(*session, **std::move(record), std::move(ended));
}

void Registry::RemoveStored(const SessionPtr& session, store::WriteBatch registry_part,
                            store::Store::Done done) {
  const bool stored = session->stored();
  if (!cache_.Remove(session, stored ? SessionCache::Removal::kUntilDeleted
                                     : SessionCache::Removal::kNeverStored)) {
    return done(session::ModelNotFound(session->name()));
  }
  const int64_t value_count = ValueCount(session->network());
  catalogue_.Release(session->info().id, value_count);
  session->Close(std::move(registry_part),
                 [this, session, stored, value_count,
                  done = std::move(done)](const absl::Status& status) mutable {
                   if (stored) cache_.EndDeletion(session->info().id);
                   if (status.ok()) return done(status);
                   catalogue_.Count(session->info().id, value_count);  // it is still in the store
                   done(session::NotStored(session->name(), status));
                 });
}

// Deletes what can be found of a model that cannot be loaded.
void Registry::DeleteDamaged(const std::string& id, store::WriteBatch batch, Done done) {
  const auto model = catalogue_.Find(id);
  if (!model.ok() && !absl::IsDataLoss(model.status())) return done(model.status());
  int64_t value_count = 0;
  if (model.ok() && model->has_value()) {
    value_count = (*model)->value_count;
    const std::string prefix = records::UidKey((*model)->uid);
    batch.Delete(records::kStates, prefix);
    for (const store::Table* table :
         {&records::kRequests, &records::kLog, &records::kChunks, &records::kCheckpoints}) {
      batch.DeletePrefix(*table, prefix);
    }
    for (const records::RunPart part : records::kRunParts) {
      batch.Delete(records::kRuns, records::RunKey((*model)->uid, part));
    }
  }
  batch.Delete(records::kModels, id);
  environment_->store->Commit(
      std::move(batch), store::Durability::kSync, nullptr,
      [this, value_count, id, done = std::move(done)](const absl::Status& status) mutable {
        if (!status.ok()) {
          return done(session::NotStored(records::ModelName(id), status));
        }
        catalogue_.Release(id, value_count);
        done(status);
      });
}

absl::StatusOr<bool> Registry::IsRepeatedDeletion(const records::RequestKey& key) {
  Ledgers& ledgers = LedgersOf(key.id);
  const base::MutexLock lock(&ledgers.mu);
  const auto found = ledgers.deletions.Find(key, environment_->clock->Now());
  if (!found.ok()) return found.status();
  return *found != nullptr;
}

// Remembers a deletion that begins, and returns its record, which is empty without a request id.
// Returns nothing if the same request has recorded it meanwhile.
absl::StatusOr<std::optional<store::WriteBatch>> Registry::RecordDeletion(
    const records::RequestKey& key) {
  store::WriteBatch batch;
  if (key.id.empty()) return batch;
  Ledgers& ledgers = LedgersOf(key.id);
  const base::MutexLock lock(&ledgers.mu);
  const absl::Time now = environment_->clock->Now();
  const auto found = ledgers.deletions.Find(key, now);
  if (!found.ok()) return found.status();
  if (*found != nullptr) return std::nullopt;
  const uint64_t sequence = ledgers.deletions.Record(key, now, {});
  batch.Put(
      records::kRequests,
      records::RegistryResponseKey(records::RegistryRequestKind::kDelete, IndexOf(ledgers),
                                   session::RegistryLedger<std::monostate>::PlaceOf(sequence)),
      records::EncodeRegistryResponse({key, now, sequence, ""}));
  return batch;
}

void Registry::DropDeletion(const records::RequestKey& key) {
  if (key.id.empty()) return;
  Ledgers& ledgers = LedgersOf(key.id);
  const base::MutexLock lock(&ledgers.mu);
  ledgers.deletions.Drop(key);
}

// A retry gets its response when the store has answered the deletion, which was passed to it
// earlier. The store may accept the empty batch of the retry although it rejected the deletion,
// such as on a full disk; then the deletion is no longer recorded.
void Registry::RespondToRepeatedDeletion(absl::string_view id, const records::RequestKey& key,
                                         Done done) {
  if (environment_->store == nullptr) return done(absl::OkStatus());
  environment_->store->Commit(
      {}, store::Durability::kSync, nullptr,
      [this, key, name = records::ModelName(id),
       done = std::move(done)](const absl::Status& status) mutable {
        if (!status.ok()) return done(session::NotStored(name, status));
        const auto recorded = IsRepeatedDeletion(key);
        if (recorded.ok() && *recorded) return done(absl::OkStatus());
        done(session::NotStored(name, absl::UnavailableError("the store rejected the deletion")));
      });
}

}  // namespace backprop::registry
