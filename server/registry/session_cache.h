// The sessions that are in memory.
#ifndef BACKPROP_SERVER_REGISTRY_SESSION_CACHE_H_
#define BACKPROP_SERVER_REGISTRY_SESSION_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"
#include "server/session/environment.h"
#include "server/session/session.h"

namespace backprop::registry {

using SessionPtr = std::shared_ptr<session::Session>;
// A session; null if there is no such model; or the error of its loading.
using MaybeSession = absl::StatusOr<SessionPtr>;

// Holds sessions by the ids of their models. With a store it loads them when they are first used,
// and evicts those that were not used recently while the memory limit is exceeded. Without a store
// all sessions are resident.
//
// Loading reads records and repeats logged steps, which may take seconds. It runs on threads of its
// own, without a lock: it delays neither other models nor the threads of callers. Callers that want
// the same model at the same time share one load.
//
// Sessions are divided into shards by id, so that no lock is shared by all callers. Thread-safe.
class SessionCache {
 public:
  using Found = absl::AnyInvocable<void(MaybeSession)>;

  // `environment` must outlive the cache. The destructor waits for loads.
  explicit SessionCache(session::Environment* environment) : environment_(environment) {}

  // Returns the session if it is resident and usable. Otherwise: without a store null, because
  // there is no such model; with a store nothing, because the model may have to be loaded. Does not
  // block.
  std::optional<SessionPtr> FindResident(absl::string_view id);

  // Loads a session, or finds it if it is resident meanwhile. If the store rejected a change of the
  // resident session, replaces that one by the stored model. If the id is claimed, waits for the
  // creation. `found` is called once, by another thread. Requires a store.
  void Load(absl::string_view id, Found found);

  // The same for callers that may block. Must not be called by a `found`.
  MaybeSession FindOrLoad(absl::string_view id);

  // A creation: TryClaim, then Insert or EndLoadOrClaim. Claims and loads of one id exclude each
  // other. Otherwise a load that began before a creation could read its records, and replace the
  // session that was created by a second one of the same model.
  //
  // Claims an id. Returns false if a session with the id is resident, usable or not, or if a load
  // or another claim is under way. Without a store there are no loads, and it returns true.
  bool TryClaim(const std::string& id);
  void EndLoadOrClaim(const std::string& id);
  // Ends the claim. Adds a session unless there is one with its id, which can be without a store
  // only. Returns the one that is resident then. `inserted` is called with a new one under the
  // lock, before other threads can find it.
  SessionPtr Insert(const SessionPtr& session, absl::FunctionRef<void()> inserted);

  // Removes a session, and returns whether it was resident. kUntilDeleted: the model is not loaded
  // until EndDeletion is called for it.
  enum class Removal { kNeverStored, kUntilDeleted };
  bool Remove(const SessionPtr& session, Removal removal);
  void EndDeletion(const std::string& id);
  // Whether the deletion of a model has begun and not ended.
  bool IsDeleting(absl::string_view id);

  // Evicts sessions that were not used recently until the memory limit is met. One call does a
  // bounded amount of work, so it may stop earlier.
  void EvictBeyondLimit();

  // Tells the cache of a model with a ttl that is not resident.
  void SetExpiry(absl::string_view id, absl::Time expires);
  // When a model that is not resident expires; unset if it has no ttl or is resident.
  std::optional<absl::Time> ExpiryOf(absl::string_view id);
  // Returns the sessions whose ttl has expired. Loads them, so it may block.
  std::vector<SessionPtr> FindExpired(absl::Time now);

  // Number of sessions in memory, at some moment during the call.
  int64_t resident();
  struct Stats {
    base::TimeHistogram loads;  // of sessions read from the store, with the time that each took
    base::Counter evictions;
  };
  const Stats& stats() const { return stats_; }

  std::vector<SessionPtr> All();
  // Up to `count` resident sessions with ids greater than `after` for which `matches` holds, in the
  // order of their ids.
  std::vector<SessionPtr> List(absl::string_view after, size_t count,
                               absl::FunctionRef<bool(const session::Session&)> matches);

 private:
  // Sessions in the order of their ids, which are in the sessions only: a hundred bytes less for
  // each than a map by id.
  struct ById {
    using is_transparent = void;
    static absl::string_view Id(absl::string_view id) { return id; }
    static absl::string_view Id(const SessionPtr& session) { return session->info().id; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return Id(a) < Id(b);
    }
  };
  using Sessions = absl::btree_set<SessionPtr, ById>;
  struct Shard {
    base::Mutex mu;
    Sessions sessions ABSL_GUARDED_BY(mu);
    // Loads and claims under way, and the callers that wait for their end. No usable session with
    // such an id is resident.
    std::map<std::string, std::vector<Found>, std::less<>> loading ABSL_GUARDED_BY(mu);
    // Models being deleted, whose records the store may still have; with the number of deletions.
    std::map<std::string, int, std::less<>> deleting ABSL_GUARDED_BY(mu);
    std::vector<std::weak_ptr<session::Session>> expiring ABSL_GUARDED_BY(mu);  // with a ttl
    // Models with a ttl that are not resident, and when they expire.
    std::map<std::string, absl::Time, std::less<>> unloaded_expiry ABSL_GUARDED_BY(mu);
    // Where the search for sessions to evict resumes.
    std::string eviction_cursor ABSL_GUARDED_BY(mu);
  };
  // Loads mostly wait for the disk. A load that repeats many steps occupies one thread.
  static constexpr int kLoadingThreads = 4;

  Shard& ShardOf(absl::string_view id);
  bool Usable(const session::Session& session) const;
  MaybeSession LoadUnlessResident(const std::string& id);
  void PostLoad(const std::string& id);
  void RunLoad(const std::string& id);
  void TrackExpiry(Shard* shard, const SessionPtr& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mu);
  std::vector<SessionPtr> EvictFrom(Shard* shard);

  session::Environment* const environment_;
  std::array<Shard, 16> shards_;
  std::atomic<size_t> next_shard_{0};  // the next one to evict from
  Stats stats_;
  exec::ComputePool loaders_{kLoadingThreads};  // last: its threads use the other members
};

}  // namespace backprop::registry

#endif  // BACKPROP_SERVER_REGISTRY_SESSION_CACHE_H_
