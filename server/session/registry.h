// All models of a server, by name.
#ifndef BACKPROP_SERVER_SESSION_REGISTRY_H_
#define BACKPROP_SERVER_SESSION_REGISTRY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
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
#include "server/session/session.h"
#include "server/store/store.h"

namespace backprop::session {

// Sharded by id: no lock is shared by all requests. With a store, models come from it when they are
// first used. Thread-safe.
class Registry {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  using Created = absl::AnyInvocable<void(const absl::StatusOr<std::shared_ptr<Session>>&)>;

  explicit Registry(Environment* environment) : environment_(environment) {}

  // Finds out what the store holds, and goes on with the runs that were under way. Called once,
  // before everything else. Reads no model that has none.
  struct Found {
    int64_t models = 0;
    int64_t runs = 0;                  // that go on
    std::vector<std::string> damaged;  // models that cannot be loaded
  };
  absl::StatusOr<Found> Open();

  struct CreateArgs {
    ModelInfo info;  // an empty id asks for an unguessable one
    std::shared_ptr<const engine::Network> network;
    std::string spec_record;  // what Environment::decode_spec reads; needed with a store
    store::Durability durability = store::Durability::kSync;
    // The first state; called once it is sure that there is room for it.
    absl::AnyInvocable<absl::StatusOr<std::shared_ptr<engine::State>>()> initial;
    RequestKey key;
  };
  // ALREADY_EXISTS (MODEL_EXISTS), RESOURCE_EXHAUSTED, or what `initial` answers. A retry gets the
  // session that the first call made. `done` is called once, when the model is stored.
  void Create(CreateArgs args, Created done);

  // NOT_FOUND, or UNAVAILABLE while draining. Counts as use of the model.
  absl::StatusOr<std::shared_ptr<Session>> Find(absl::string_view id);

  // `done` is called once, when that is stored.
  void Delete(absl::string_view id, const RequestKey& key, Done done);

  // Up to `count` models whose id is greater than `after`, with all of `labels`, by id. Those that
  // cannot be loaded are left out.
  absl::StatusOr<std::vector<std::shared_ptr<Session>>> List(
      absl::string_view after, size_t count, const std::map<std::string, std::string>& labels);

  // Deletes the models whose time has come. Returns how many.
  int64_t ExpireIdle();

  // Goes on with runs that were parked when the store failed, if it works again. Returns how many.
  int64_t ResumeParked();

  // From now on every Find and Create answers UNAVAILABLE, and every run stops.
  void Drain();

  int64_t size() const { return models_.load(); }
  // Has models used least recently leave the memory until the limit is kept, as far as they can.
  void EvictBeyondLimit();

 private:
  struct Creation {
    std::string id;
    bool done = false;
  };
  struct Shard {
    base::Mutex mu;
    std::map<std::string, std::shared_ptr<Session>, std::less<>> models ABSL_GUARDED_BY(mu);
    std::vector<std::weak_ptr<Session>> mortal ABSL_GUARDED_BY(mu);  // those with a ttl
    // With a ttl, in the store alone: when they expire.
    std::map<std::string, absl::Time, std::less<>> dormant ABSL_GUARDED_BY(mu);
    std::string hand ABSL_GUARDED_BY(mu);  // where the search for who can be evicted goes on
    // Deleted, although the store may not know it yet.
    std::map<std::string, int, std::less<>> deleting ABSL_GUARDED_BY(mu);
    // Of requests whose id falls into this shard; with how many there were.
    RequestWindow<Creation> creations ABSL_GUARDED_BY(mu){base::kRegistryRequestWindow};
    RequestWindow<std::monostate> deletions ABSL_GUARDED_BY(mu){base::kRegistryRequestWindow};
    uint64_t creation_count ABSL_GUARDED_BY(mu) = 0;
    uint64_t deletion_count ABSL_GUARDED_BY(mu) = 0;
    base::Mutex load_mu;  // before mu: held while a model of the shard is read from the store
  };

  Shard& ShardOf(absl::string_view key);
  std::shared_ptr<Session> Lookup(absl::string_view id);
  absl::StatusOr<std::shared_ptr<Session>> FindOrLoad(absl::string_view id);
  absl::StatusOr<std::shared_ptr<Session>> Reserve(CreateArgs* args);
  absl::StatusOr<std::shared_ptr<Session>> Insert(
      CreateArgs* args, absl::FunctionRef<void(const std::shared_ptr<Session>&)> inserted);
  absl::Status TakeRoom(int64_t numbers);
  absl::StatusOr<MemoryBudget::Claim> AskForMemory(int64_t bytes, const std::string& model);
  void GiveRoom(int64_t numbers);
  store::Batch CreationRecord(const RequestKey& key, const std::string& id);
  void SettleCreation(const RequestKey& key, const std::string& id);
  enum class Removal { kNeverStored, kStored };
  bool Remove(const std::shared_ptr<Session>& session, Removal removal);
  void Hold(Shard* shard, const std::shared_ptr<Session>& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mu);
  std::vector<std::shared_ptr<Session>> EvictFrom(Shard* shard);
  void DeleteDamaged(absl::string_view id, store::Batch batch, Done done);
  void RemoveStored(const std::shared_ptr<Session>& session, store::Batch registry_part,
                    store::Store::Done done);
  absl::Status OpenModels(Found* found, const std::vector<Uid>& with_runs);
  absl::Status OpenAnswers();
  absl::StatusOr<std::vector<Uid>> UidsWithRuns();
  absl::StatusOr<std::vector<std::string>> StoredIds(
      absl::string_view after, size_t count, const std::map<std::string, std::string>& labels);

  Environment* const environment_;
  std::array<Shard, 16> shards_;
  std::atomic<int64_t> models_{0};
  std::atomic<int64_t> parameters_{0};  // numbers held by all models, optimiser state included
  std::atomic<size_t> next_shard_{0};   // to evict from
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REGISTRY_H_
