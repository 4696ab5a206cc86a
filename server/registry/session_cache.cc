// Evicts models that were not used for a long time, and deletes expired ones.
#include <string>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/session/registry.h"

namespace backprop::session {

// Called for a session that was added to the map: tracks its ttl.
void Registry::Hold(Shard* shard, const std::shared_ptr<Session>& session) {
  if (!session->info().ttl.has_value()) return;
  shard->expiring.push_back(session);
  shard->unloaded_expiry.erase(session->info().id);
}

// Visits the shards in turn, a few models of each, until enough memory is free or the bound is
// reached. A model that was used since its last visit is not evicted this time.
void Registry::EvictBeyondLimit() {
  if (environment_->store == nullptr) return;
  constexpr int kMostLooks = 64;  // shards; a bound on the work of one caller for all
  for (int look = 0; look < kMostLooks && environment_->memory.models_exceed(); ++look) {
    // The lock is not held while their memory is freed.
    const auto evicted = EvictFrom(&shards_[next_shard_.fetch_add(1) % shards_.size()]);
  }
}

std::vector<std::shared_ptr<Session>> Registry::EvictFrom(Shard* shard) {
  constexpr int kMostModels = 64;
  std::vector<std::shared_ptr<Session>> evicted;
  const base::MutexLock lock(&shard->mu);
  auto it = shard->models.upper_bound(shard->eviction_cursor);
  for (int look = 0; look < kMostModels && !shard->models.empty(); ++look) {
    if (it == shard->models.end()) it = shard->models.begin();
    const std::shared_ptr<Session>& session = it->second;
    shard->eviction_cursor = it->first;
    // There is no other reference, and none can be made while the lock is held.
    const bool idle = session.use_count() == 1 && !session->TakeTouched() && session->Evictable();
    if (!idle) {
      ++it;
      continue;
    }
    if (const auto expires = session->ExpireTime()) {
      shard->unloaded_expiry.insert_or_assign(it->first, *expires);
    }
    evicted.push_back(session);
    it = shard->models.erase(it);
  }
  return evicted;
}

int64_t Registry::ResumeParked() {
  if (environment_->store == nullptr || !environment_->store->health().ok()) return 0;
  int64_t resumed = 0;
  for (const std::string& id : environment_->TakeParked()) {
    // Loading a model resumes its run.
    const auto session = FindOrLoad(id);
    if (absl::IsUnavailable(session.status())) environment_->AddParked(id);  // failed again
    resumed += session.ok() && *session != nullptr ? 1 : 0;
  }
  return resumed;
}

int64_t Registry::ExpireIdle() {
  const absl::Time now = environment_->clock->Now();
  std::vector<std::string> unloaded_expiry;
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    std::erase_if(shard.unloaded_expiry, [&](const auto& model) {
      if (model.second > now) return false;
      unloaded_expiry.push_back(model.first);
      return true;
    });
  }
  std::vector<std::shared_ptr<Session>> expired;
  for (const std::string& id : unloaded_expiry) {
    auto session = FindOrLoad(id);
    if (session.ok() && *session != nullptr) expired.push_back(*std::move(session));
  }
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    std::erase_if(shard.expiring, [&](const std::weak_ptr<Session>& weak) {
      auto session = weak.lock();
      if (session == nullptr) return true;
      const auto expire_time = session->ExpireTime();
      if (!expire_time.has_value() || *expire_time > now) return false;
      expired.push_back(std::move(session));
      return true;
    });
  }
  for (const auto& session : expired) RemoveStored(session, {}, [](const absl::Status&) {});
  return static_cast<int64_t>(expired.size());
}

}  // namespace backprop::session
