// All models of a server: they are created, found, listed, deleted, and expire.
#ifndef BACKPROP_SERVER_REGISTRY_REGISTRY_H_
#define BACKPROP_SERVER_REGISTRY_REGISTRY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/request_key.h"
#include "server/registry/catalogue.h"
#include "server/registry/session_cache.h"
#include "server/session/environment.h"
#include "server/session/memory_budget.h"
#include "server/session/projects.h"
#include "server/session/request_ledger.h"
#include "server/store/store.h"

namespace backprop::registry {

// The life of a registry: Open, then serving, then Drain. While a backup is being restored
// (Environment::restoring) there are no models, and all methods that look for one return
// UNAVAILABLE. Ids of models are those of records::ScopedId. Thread-safe.
class Registry {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  using Created = absl::AnyInvocable<void(const MaybeSession&)>;
  using Found = SessionCache::Found;

  // `environment` must outlive the registry.
  explicit Registry(session::Environment* environment)
      : environment_(environment), catalogue_(environment), cache_(environment) {}

  // Finds the models in the store, and resumes the runs that were active. Loads only models with
  // such runs. Must be called before all other methods, and again after a backup was restored.
  // Blocks.
  struct Opened {
    int64_t models = 0;
    int64_t runs = 0;                  // resumed runs
    std::vector<std::string> damaged;  // models that cannot be loaded
  };
  absl::StatusOr<Opened> Open();

  struct CreateArgs {
    records::ModelInfo info;  // an id without a part after the project requests an unguessable one
    std::shared_ptr<const engine::Network> network;
    records::Durability durability = records::Durability::kSync;
    // Creates the first state. Called after the check that there is room for it.
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>()> initial;
    records::RequestKey key;
  };
  // Errors: ALREADY_EXISTS (MODEL_EXISTS), RESOURCE_EXHAUSTED, UNAVAILABLE, INVALID_ARGUMENT if the
  // request id was used for another request, those of `initial`. A retry gets the session that the
  // first call created, or NOT_FOUND (MODEL_DELETED) if it was deleted. `done` is called once, when
  // the model is stored, or with an error.
  void Create(CreateArgs args, Created done);

  // Finds a model that is in memory. Nothing: Find must be called. Does not block. Errors:
  // NOT_FOUND; UNAVAILABLE while draining. Counts as a use of the model.
  std::optional<MaybeSession> FindResident(absl::string_view id);

  // Finds a model, and loads it if it is not in memory. `found` is called once, possibly by another
  // thread. Errors: those of FindResident and session::LoadSession. Counts as a use of the model.
  void Find(absl::string_view id, Found found);

  // `done` is called once, when the deletion is stored.
  void Delete(absl::string_view id, const records::RequestKey& key, Done done);

  // Up to `count` models with ids that begin with `prefix` (that of a project) and are greater than
  // `after`, and that have all of `labels`, in the order of their ids. Loads none. Models with a
  // damaged description are omitted. Reads the store.
  absl::StatusOr<std::vector<Description>> List(absl::string_view prefix, absl::string_view after,
                                                size_t count, const Labels& labels);

  // Deletes the models whose ttl has expired. Returns their number. May block.
  int64_t ExpireIdle();

  // Resumes runs that were parked when the store failed, if it works again. Returns their number.
  // May block.
  int64_t ResumeParked();

  // Stops all runs. From now on Find, Create and Delete return UNAVAILABLE. Environment::row_source
  // must be stopped before, so that no run waits for rows.
  void Drain();

  int64_t size() const { return catalogue_.size(); }

  // See SessionCache.
  int64_t resident() { return cache_.resident(); }
  const SessionCache::Stats& cache_stats() const { return cache_.stats(); }
  void EvictBeyondLimit() { cache_.EvictBeyondLimit(); }

 private:
  // A creation is recorded when it begins, so that retries use the same id for the model.
  struct Creation {
    std::string id;
    bool done = false;
  };
  // What is known of a creation that begins.
  struct Reservation {
    bool done = false;  // the same request has created the model earlier
    // Time and number in Ledgers::creations, if the request has an id.
    absl::Time time;
    uint64_t sequence = 0;
  };
  // Remembered responses for the requests whose id hashes to them.
  struct Ledgers {
    base::Mutex mu;
    session::RegistryLedger<Creation> creations ABSL_GUARDED_BY(mu);
    session::RegistryLedger<std::monostate> deletions ABSL_GUARDED_BY(mu);
  };

  Ledgers& LedgersOf(absl::string_view request_id);
  uint8_t IndexOf(const Ledgers& ledgers) const {
    return static_cast<uint8_t>(&ledgers - ledgers_.data());
  }

  // registry_open.cc
  absl::Status OpenModels(const std::vector<records::Uid>& with_runs, Opened* opened);
  absl::Status OpenLedgers();
  absl::StatusOr<std::vector<records::Uid>> UidsWithRuns();

  // registry_create.cc
  absl::StatusOr<Reservation> Reserve(CreateArgs* args);
  void CreateUnlessExists(CreateArgs args, const Reservation& reservation, Created done);
  void RespondExisting(const records::RequestKey& key, const Reservation& reservation,
                       const SessionPtr& session, Created done);
  void EndCreation(SessionPtr session, const absl::Status& status, Created done);
  void CreateNew(CreateArgs args, const Reservation& reservation, Created done);
  // What a creation holds until it is stored.
  struct Room {
    session::MemoryBudget::Claim memory;
    session::Project::Claim stored;
  };
  absl::StatusOr<Room> AskForRoom(int64_t bytes, const std::string& id);
  SessionPtr MakeSession(CreateArgs* args, std::shared_ptr<engine::State> initial);
  store::WriteBatch CreationRecord(const CreateArgs& args, const Reservation& reservation);
  void SettleCreation(const records::RequestKey& key, const std::string& id);

  // registry_delete.cc
  void DeleteFound(const std::string& id, const records::RequestKey& key,
                   const MaybeSession& session, Done done);
  void DeleteDamaged(const std::string& id, store::WriteBatch batch, Done done);
  void RemoveStored(const SessionPtr& session, store::WriteBatch registry_part,
                    store::Store::Done done);
  absl::StatusOr<bool> IsRepeatedDeletion(const records::RequestKey& key);
  absl::StatusOr<std::optional<store::WriteBatch>> RecordDeletion(const records::RequestKey& key);
  void DropDeletion(const records::RequestKey& key);
  void RespondToRepeatedDeletion(absl::string_view id, const records::RequestKey& key, Done done);

  std::vector<Description> ListResident(absl::string_view prefix, absl::string_view after,
                                        size_t count, const Labels& labels);

  session::Environment* const environment_;
  std::array<Ledgers, 16> ledgers_;
  Catalogue catalogue_;
  SessionCache cache_;  // last: its threads use the other members
};

}  // namespace backprop::registry

#endif  // BACKPROP_SERVER_REGISTRY_REGISTRY_H_
