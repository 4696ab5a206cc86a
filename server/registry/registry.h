// All models of a server.
#ifndef BACKPROP_SERVER_SESSION_REGISTRY_H_
#define BACKPROP_SERVER_SESSION_REGISTRY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/records/request_key.h"
#include "server/session/request_ledger.h"
#include "server/session/session.h"
#include "server/store/store.h"

namespace backprop::session {

// Models are divided into shards by id, so that no lock is shared by all requests. With a store, a
// model is loaded when it is first used. Thread-safe.
class Registry {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  using Created = absl::AnyInvocable<void(const absl::StatusOr<std::shared_ptr<Session>>&)>;

  // `environment` must outlive the registry.
  explicit Registry(Environment* environment) : environment_(environment) {}

  // Finds the models in the store, and resumes the runs that were active. Loads only models with
  // such runs. Must be called before all other methods, and again after a backup was restored.
  struct Found {
    int64_t models = 0;
    int64_t runs = 0;                  // resumed runs
    std::vector<std::string> damaged;  // models that cannot be loaded
  };
  absl::StatusOr<Found> Open();

  struct CreateArgs {
    records::ModelInfo info;  // an empty id requests an unguessable one
    std::shared_ptr<const engine::Network> network;
    store::Durability durability = store::Durability::kSync;
    // Creates the first state. Called after the check that there is room for it.
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>()> initial;
    records::RequestKey key;
  };
  // Errors: ALREADY_EXISTS (MODEL_EXISTS), RESOURCE_EXHAUSTED, UNAVAILABLE, INVALID_ARGUMENT if the
  // request id was used for another request, those of `initial`. A retry gets the session that the
  // first call created, or NOT_FOUND (MODEL_DELETED) if it was deleted. `done` is called once, when
  // the model is stored, or with an error.
  void Create(CreateArgs args, Created done);

  // Errors: NOT_FOUND, UNAVAILABLE while draining, those of LoadSession. Counts as a use of the
  // model.
  absl::StatusOr<std::shared_ptr<Session>> Find(absl::string_view id);

  // `done` is called once, when the deletion is stored.
  void Delete(absl::string_view id, const records::RequestKey& key, Done done);

  // Up to `count` models with ids greater than `after` that have all of `labels`, in the order of
  // their ids. Models that cannot be loaded are omitted.
  absl::StatusOr<std::vector<std::shared_ptr<Session>>> List(
      absl::string_view after, size_t count, const std::map<std::string, std::string>& labels);

  // Deletes the models whose ttl has expired. Returns their number.
  int64_t ExpireIdle();

  // Resumes runs that were parked when the store failed, if it works again. Returns their number.
  int64_t ResumeParked();

  // Stops all runs. From now on Find, Create and Delete return UNAVAILABLE.
  void Drain();

  int64_t size() const { return models_.load(); }
  // Evicts models that were not used recently until the memory limit is met. One call does a
  // bounded amount of work, so it may stop earlier.
  void EvictBeyondLimit();

 private:
  // A creation is recorded when it begins, so that retries use the same id for the model.
  struct Creation {
    std::string id;
    bool done = false;
  };
  // What is known of a creation that begins.
  struct Reservation {
    std::shared_ptr<Session> existing;  // the model that the same request created earlier, or null
    // Time and number in Shard::creations, if the request has an id.
    absl::Time time;
    uint64_t sequence = 0;
  };
  struct Shard {
    base::Mutex mu;
    std::map<std::string, std::shared_ptr<Session>, std::less<>> models ABSL_GUARDED_BY(mu);
    std::vector<std::weak_ptr<Session>> expiring ABSL_GUARDED_BY(mu);  // models with a ttl
    // Models with a ttl that are only in the store, and when they expire.
    std::map<std::string, absl::Time, std::less<>> unloaded_expiry ABSL_GUARDED_BY(mu);
    std::string eviction_cursor
        ABSL_GUARDED_BY(mu);  // where the search for models to evict resumes
    // Models being deleted, whose records the store may still have; with the number of deletions.
    std::map<std::string, int, std::less<>> deleting ABSL_GUARDED_BY(mu);
    // Remembered responses for requests whose id hashes to this shard.
    RegistryLedger<Creation> creations ABSL_GUARDED_BY(mu);
    RegistryLedger<std::monostate> deletions ABSL_GUARDED_BY(mu);
    base::Mutex load_mu;  // locked before mu; held while a model of the shard is loaded
  };

  Shard& ShardOf(absl::string_view key);
  std::shared_ptr<Session> Lookup(absl::string_view id);
  absl::StatusOr<std::shared_ptr<Session>> FindOrLoad(absl::string_view id);
  absl::StatusOr<Reservation> Reserve(CreateArgs* args);
  absl::StatusOr<std::shared_ptr<Session>> Insert(
      CreateArgs* args, absl::FunctionRef<void(const std::shared_ptr<Session>&)> inserted);
  absl::Status ReserveQuota(int64_t value_count);
  absl::StatusOr<MemoryBudget::Claim> AskForMemory(int64_t bytes, const std::string& model);
  void ReleaseQuota(int64_t value_count);
  store::WriteBatch CreationRecord(const CreateArgs& args, const Reservation& reservation);
  void SettleCreation(const records::RequestKey& key, const std::string& id);
  absl::StatusOr<bool> IsRepeatedDeletion(const records::RequestKey& key);
  absl::StatusOr<std::optional<store::WriteBatch>> RecordDeletion(const records::RequestKey& key);
  void DropDeletion(const records::RequestKey& key);
  void AnswerRepeatedDeletion(Done done);
  uint8_t IndexOf(const Shard& shard) const {
    return static_cast<uint8_t>(&shard - shards_.data());
  }
  enum class Removal { kNeverStored, kStored };
  bool Remove(const std::shared_ptr<Session>& session, Removal removal);
  void Hold(Shard* shard, const std::shared_ptr<Session>& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mu);
  std::vector<std::shared_ptr<Session>> EvictFrom(Shard* shard);
  void DeleteDamaged(absl::string_view id, store::WriteBatch batch, Done done);
  void RemoveStored(const std::shared_ptr<Session>& session, store::WriteBatch registry_part,
                    store::Store::Done done);
  absl::Status OpenModels(Found* found, const std::vector<records::Uid>& with_runs);
  absl::Status OpenAnswers();
  absl::StatusOr<std::vector<records::Uid>> UidsWithRuns();
  absl::StatusOr<std::vector<std::string>> StoredIds(
      absl::string_view after, size_t count, const std::map<std::string, std::string>& labels);

  Environment* const environment_;
  std::array<Shard, 16> shards_;
  std::atomic<int64_t> models_{0};
  std::atomic<int64_t> parameters_{0};  // numbers held by all models, including optimiser state
  std::atomic<size_t> next_shard_{0};   // the next one to evict from
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REGISTRY_H_
