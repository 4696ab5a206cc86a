// How a registry creates models.
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/codec/spec_codec.h"
#include "server/engine/spec.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/run_events.h"
#include "server/records/tables.h"
#include "server/registry/registry.h"
#include "server/session/errors.h"
#include "server/session/projects.h"
#include "server/session/stored_model_log.h"
#include "server/store/store.h"

namespace backprop::registry {
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
                           absl::StrCat(records::ModelName(id), ": already exists"),
                           {"MODEL_EXISTS", {{"model", records::ModelName(id)}}});
}

}  // namespace

// Sets the id, which is the same for all retries.
absl::StatusOr<Registry::Reservation> Registry::Reserve(CreateArgs* args) {
  Reservation reservation;
  if (args->key.id.empty()) {
    if (records::IdOf(args->info.id).empty()) args->info.id += UnguessableId();
    return reservation;
  }
  Ledgers& ledgers = LedgersOf(args->key.id);
  const base::MutexLock lock(&ledgers.mu);
  const absl::Time now = environment_->clock->Now();
  const auto found = ledgers.creations.Find(args->key, now);
  if (!found.ok()) return found.status();
  if (*found == nullptr) {
    if (records::IdOf(args->info.id).empty()) args->info.id += UnguessableId();
    reservation.time = now;
    reservation.sequence = ledgers.creations.Record(args->key, now, {args->info.id, false});
    return reservation;
  }
  reservation.done = (*found)->response.done;
  reservation.time = (*found)->time;
  reservation.sequence = (*found)->sequence;
  args->info.id = (*found)->response.id;
  return reservation;
}

void Registry::Create(CreateArgs args, Created done) {
  if (environment_->draining) return done(session::ShuttingDown());
  const auto reservation = Reserve(&args);
  if (!reservation.ok()) return done(reservation.status());
  CreateUnlessExists(std::move(args), *reservation, std::move(done));
}

// Claims the id and creates the model, or finds the one that has the id. If another thread loads or
// creates a model with the id, waits for it and tries again.
void Registry::CreateUnlessExists(CreateArgs args, const Reservation& reservation, Created done) {
  if (environment_->restoring) return done(session::Restoring());
  const std::string id = args.info.id;
  if (const auto resident = cache_.FindResident(id); resident.has_value() && *resident != nullptr) {
    return RespondExisting(args.key, reservation, *resident, std::move(done));
  }
  if (cache_.TryClaim(id)) {
    // The records of a model that is being deleted are not those of an existing one. Asked first,
    // because the deletion may end meanwhile.
    const bool deleting = cache_.IsDeleting(id);
    const absl::StatusOr<bool> stored = deleting ? false : catalogue_.Contains(id);
    if (stored.ok() && !*stored) {
      if (!reservation.done) return CreateNew(std::move(args), reservation, std::move(done));
      cache_.EndLoadOrClaim(id);
      return done(session::ModelDeleted(records::ModelName(id)));
    }
    cache_.EndLoadOrClaim(id);
    if (!stored.ok()) return done(stored.status());
  }
  cache_.Load(id, [this, args = std::move(args), reservation,
                   done = std::move(done)](const MaybeSession& existing) mutable {
    if (!existing.ok()) return done(existing.status());
    if (*existing != nullptr) {
      return RespondExisting(args.key, reservation, *existing, std::move(done));
    }
    CreateUnlessExists(std::move(args), reservation, std::move(done));
  });
}

// The id belongs to `session`. If the same request created it, `done` is called when the creation
// is stored.
void Registry::RespondExisting(const records::RequestKey& key, const Reservation& reservation,
                               const SessionPtr& session, Created done) {
  const bool is_own = !key.id.empty() && session->created_by().id == key.id;
  if (!is_own) {
    // Another request created the model again after the deletion of the first one.
    return done(reservation.done ? session::ModelDeleted(session->name())
                                 : AlreadyExists(session->info().id));
  }
  session->WhenStored([session, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(session::NotStored(session->name(), status));
    done(session);
  });
}

// Claims memory for a new model of `bytes` bytes, and their part of the project's stored bytes,
// both until it is stored: until then its values are in memory twice, and not yet counted as
// stored. Without a store it cannot be evicted, so it must fit into the room for models.
absl::StatusOr<Registry::Room> Registry::AskForRoom(int64_t bytes, const std::string& id) {
  const std::string model = records::ModelName(id);
  if (environment_->store == nullptr) {
    const absl::Status fits = environment_->memory.CheckModel(bytes + base::kSessionBytes, model);
    if (!fits.ok()) return fits;
    return Room();
  }
  auto stored = environment_->projects.Of(records::ProjectOf(id))
                    ->Ask(session::Resource::kStoredBytes, bytes);
  if (!stored.ok()) return stored.status();
  auto memory = environment_->memory.AskForWork(bytes, model);
  if (!memory.ok()) return memory.status();
  return Room{*std::move(memory), *std::move(stored)};
}

// The id must be claimed. Ends the claim.
void Registry::CreateNew(CreateArgs args, const Reservation& reservation, Created done) {
  const std::string id = args.info.id;
  const int64_t value_count = ValueCount(*args.network);
  const absl::Status room = catalogue_.Reserve(id, value_count);
  if (!room.ok()) {
    cache_.EndLoadOrClaim(id);
    return done(room);
  }
  const auto fail = [&](const absl::Status& status) {
    cache_.EndLoadOrClaim(id);
    catalogue_.Release(id, value_count);
    done(status);
  };
  const int64_t bytes = value_count * engine::SizeOf(args.network->spec().data_type);
  auto claimed = AskForRoom(bytes, id);
  if (!claimed.ok()) return fail(claimed.status());
  // After Reserve: a restore sets this, then looks for models.
  if (environment_->restoring) return fail(session::Restoring());
  auto initial = args.initial();
  if (!initial.ok()) return fail(initial.status());
  const bool stores = environment_->store != nullptr;
  std::string spec;
  if (stores) {
    spec = codec::EncodeSpecRecord(args.network->spec(), args.info.class_names,
                                   args.info.feature_names);
  }
  store::WriteBatch record = CreationRecord(args, reservation);
  const SessionPtr session = MakeSession(&args, *std::move(initial));
  // Called before other threads can find the session, so that changes of it are stored later.
  const auto store_it = [&] {
    if (!stores) return;
    session->StoreCreation(
        std::move(spec), std::move(record),
        [this, session = SessionPtr(session), claimed = *std::move(claimed),
         done = std::exchange(done, nullptr)](const absl::Status& status) mutable {
          claimed = {};
          EndCreation(std::move(session), status, std::move(done));
        });
  };
  const SessionPtr resident = cache_.Insert(session, store_it);
  if (stores) return;
  if (resident != session) {  // another caller created it first
    catalogue_.Release(id, value_count);
    return RespondExisting(args.key, reservation, resident, std::move(done));
  }
  SettleCreation(args.key, id);
  done(session);
}

// Called when the store has stored or rejected a new model.
void Registry::EndCreation(SessionPtr session, const absl::Status& status, Created done) {
  if (status.ok()) {
    SettleCreation(session->created_by(), session->info().id);
    done(session);
    // Stored models can be evicted; this one can after its caller was answered.
    session = nullptr;
    return cache_.EvictBeyondLimit();
  }
  if (cache_.Remove(session, SessionCache::Removal::kNeverStored)) {
    catalogue_.Release(session->info().id, ValueCount(session->network()));
  }
  session->StopRun(records::StopReason::kModelDeleted, session::ModelDeleted(session->name()));
  done(session::NotStored(session->name(), status));
}

SessionPtr Registry::MakeSession(CreateArgs* args, std::shared_ptr<engine::State> initial) {
  session::SessionStart start;
  start.info = std::move(args->info);
  start.network = args->network;
  start.created_at_step = initial->step;
  start.state = std::move(initial);
  start.create_time = environment_->clock->Now();
  start.created_by = args->key;
  start.uid = records::DrawUid();
  if (environment_->store != nullptr) {
    start.log = std::make_unique<session::StoredModelLog>(
        environment_->store, &environment_->limits, start.uid, args->durability,
        environment_->projects.Of(records::ProjectOf(start.info.id)));
  }
  return std::make_shared<session::Session>(environment_, std::move(start));
}

// From now on a retry gets the model with that id, or MODEL_DELETED if it was deleted.
void Registry::SettleCreation(const records::RequestKey& key, const std::string& id) {
  if (key.id.empty()) return;
  Ledgers& ledgers = LedgersOf(key.id);
  const base::MutexLock lock(&ledgers.mu);
  ledgers.creations.Update(key, {id, true});
}

// The same as a record of the store; empty if there is no store or no request id.
store::WriteBatch Registry::CreationRecord(const CreateArgs& args, const Reservation& reservation) {
  store::WriteBatch batch;
  if (args.key.id.empty() || environment_->store == nullptr) return batch;
  batch.Put(records::kRequests,
            records::RegistryResponseKey(
                records::RegistryRequestKind::kCreate, IndexOf(LedgersOf(args.key.id)),
                session::RegistryLedger<Creation>::PlaceOf(reservation.sequence)),
            records::EncodeRegistryResponse(
                {args.key, reservation.time, reservation.sequence, args.info.id}));
  return batch;
}

}  // namespace backprop::registry
