#include "server/registry/session_cache.h"

#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "server/records/run_events.h"
#include "server/session/errors.h"
#include "server/session/loader.h"

namespace backprop::registry {

SessionCache::Shard& SessionCache::ShardOf(absl::string_view id) {
  return shards_[XXH3_64bits(id.data(), id.size()) % shards_.size()];
}

// While the store does not work, it is unknown which of the rejected changes it holds. A session in
// memory can still be read then.
bool SessionCache::Usable(const session::Session& session) const {
  return session.phase() != session::Session::Phase::kBroken || !environment_->store->health().ok();
}

std::optional<SessionPtr> SessionCache::FindResident(absl::string_view id) {
  SessionPtr session;
  {
    Shard& shard = ShardOf(id);
    const base::MutexLock lock(&shard.mu);
    const auto it = shard.sessions.find(id);
    if (it != shard.sessions.end()) session = *it;
  }
  if (environment_->store == nullptr) return session;
  if (session == nullptr || !Usable(*session)) return std::nullopt;
  return session;
}

void SessionCache::Load(absl::string_view id, Found found) {
  Shard& shard = ShardOf(id);
  {
    const base::MutexLock lock(&shard.mu);
    const auto [load, is_new] = shard.loading.try_emplace(std::string(id));
    load->second.push_back(std::move(found));
    if (!is_new) return;
  }
  PostLoad(std::string(id));
}

void SessionCache::PostLoad(const std::string& id) {
  loaders_.Post(exec::Priority::kInteractive, [this, id] { RunLoad(id); });
}

// The resident session if it is usable, else the stored model.
MaybeSession SessionCache::LoadUnlessResident(const std::string& id) {
  if (environment_->restoring) return session::Restoring();
  Shard& shard = ShardOf(id);
  {
    const base::MutexLock lock(&shard.mu);
    const auto it = shard.sessions.find(id);
    if (it != shard.sessions.end()) {
      if (Usable(**it)) return *it;
      shard.sessions.erase(it);
    }
    if (shard.deleting.find(id) != shard.deleting.end()) return nullptr;
  }
  const auto begin = std::chrono::steady_clock::now();
  MaybeSession loaded = session::LoadSession(environment_, id);
  if (!loaded.ok() || *loaded == nullptr) return loaded;
  stats_.loads.Add(std::chrono::steady_clock::now() - begin);
  {
    const base::MutexLock lock(&shard.mu);
    shard.sessions.erase(id);
    shard.sessions.insert(*loaded);
    TrackExpiry(&shard, *loaded);
  }
  if (environment_->draining) {  // then Registry::Drain may not have seen it
    (*loaded)->StopRun(records::StopReason::kServerShutdown, session::ShuttingDown());
  }
  return loaded;
}

// Answers the callers that wait when the reading begins. Later ones are answered by the next load:
// the model may be deleted between this reading and their calls.
void SessionCache::RunLoad(const std::string& id) {
  std::vector<Found> waiting;
  {
    Shard& shard = ShardOf(id);
    const base::MutexLock lock(&shard.mu);
    const auto load = shard.loading.find(id);
    if (load == shard.loading.end()) std::abort();
    waiting.swap(load->second);
  }
  const MaybeSession loaded = LoadUnlessResident(id);
  EvictBeyondLimit();
  EndLoadOrClaim(id);
  for (Found& found : waiting) found(loaded);
}

MaybeSession SessionCache::FindOrLoad(absl::string_view id) {
  if (auto resident = FindResident(id); resident.has_value()) return *std::move(resident);
  base::Mutex mu;
  base::CondVar changed;
  std::optional<MaybeSession> result;
  Load(id, [&](MaybeSession found) {
    const base::MutexLock lock(&mu);
    result = std::move(found);
    changed.NotifyAll();
  });
  const base::MutexLock lock(&mu);
  changed.Wait(&mu, [&] { return result.has_value(); });
  return *std::move(result);
}

bool SessionCache::TryClaim(const std::string& id) {
  if (environment_->store == nullptr) return true;
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  if (shard.sessions.find(id) != shard.sessions.end()) return false;
  return shard.loading.try_emplace(id).second;
}

// Ends a claim or a load. The callers that wait find out what the store has. Checked in all builds:
// if a claim and a load did not exclude each other, a model could have two sessions.
void SessionCache::EndLoadOrClaim(const std::string& id) {
  if (environment_->store == nullptr) return;
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  const auto claim = shard.loading.find(id);
  if (claim == shard.loading.end()) std::abort();
  if (claim->second.empty()) {
    shard.loading.erase(claim);
  } else {
    PostLoad(id);
  }
}

SessionPtr SessionCache::Insert(const SessionPtr& session, absl::FunctionRef<void()> inserted) {
  SessionPtr resident;
  std::vector<Found> waiting;
  {
    Shard& shard = ShardOf(session->info().id);
    const base::MutexLock lock(&shard.mu);
    const auto [it, is_new] = shard.sessions.insert(session);
    if (is_new) {
      TrackExpiry(&shard, session);
      inserted();
    }
    resident = *it;
    if (const auto claim = shard.loading.find(session->info().id); claim != shard.loading.end()) {
      waiting.swap(claim->second);
      shard.loading.erase(claim);
    }
  }
  for (Found& found : waiting) found(resident);
  return resident;
}

bool SessionCache::Remove(const SessionPtr& session, Removal removal) {
  Shard& shard = ShardOf(session->info().id);
  const base::MutexLock lock(&shard.mu);
  const auto it = shard.sessions.find(session->info().id);
  if (it == shard.sessions.end() || *it != session) return false;
  shard.sessions.erase(it);
  if (removal == Removal::kUntilDeleted) ++shard.deleting[session->info().id];
  return true;
}

void SessionCache::EndDeletion(const std::string& id) {
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  const auto it = shard.deleting.find(id);
  if (--it->second == 0) shard.deleting.erase(it);
}

bool SessionCache::IsDeleting(absl::string_view id) {
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  return shard.deleting.find(id) != shard.deleting.end();
}

// Called for a session that was added.
void SessionCache::TrackExpiry(Shard* shard, const SessionPtr& session) {
  if (!session->info().ttl.has_value()) return;
  shard->expiring.push_back(session);
  shard->unloaded_expiry.erase(session->info().id);
}

// Visits the shards in turn, a few sessions of each, until enough memory is free or the bound is
// reached. A session that was used since its last visit is not evicted this time.
void SessionCache::EvictBeyondLimit() {
  if (environment_->store == nullptr) return;
  constexpr int kMostLooks = 64;  // shards; a bound on the work of one caller for all
  for (int look = 0; look < kMostLooks && environment_->memory.models_exceed(); ++look) {
    // The lock is not held while their memory is freed.
    const auto evicted = EvictFrom(&shards_[next_shard_.fetch_add(1) % shards_.size()]);
  }
}

std::vector<SessionPtr> SessionCache::EvictFrom(Shard* shard) {
  constexpr int kMostSessions = 64;
  std::vector<SessionPtr> evicted;
  const base::MutexLock lock(&shard->mu);
  auto it = shard->sessions.upper_bound(shard->eviction_cursor);
  for (int look = 0; look < kMostSessions && !shard->sessions.empty(); ++look) {
    if (it == shard->sessions.end()) it = shard->sessions.begin();
    const SessionPtr& session = *it;
    shard->eviction_cursor = session->info().id;
    // There is no other reference, and none can be made while the lock is held.
    const bool idle = session.use_count() == 1 && !session->TakeTouched() && session->Evictable();
    if (!idle) {
      ++it;
      continue;
    }
    if (const auto expires = session->ExpireTime()) {
      shard->unloaded_expiry.insert_or_assign(session->info().id, *expires);
    }
    evicted.push_back(session);
    it = shard->sessions.erase(it);
  }
  stats_.evictions.Add(static_cast<int64_t>(evicted.size()));
  return evicted;
}

void SessionCache::SetExpiry(absl::string_view id, absl::Time expires) {
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  shard.unloaded_expiry.insert_or_assign(std::string(id), expires);
}

std::optional<absl::Time> SessionCache::ExpiryOf(absl::string_view id) {
  Shard& shard = ShardOf(id);
  const base::MutexLock lock(&shard.mu);
  const auto it = shard.unloaded_expiry.find(id);
  if (it == shard.unloaded_expiry.end()) return std::nullopt;
  return it->second;
}

std::vector<SessionPtr> SessionCache::FindExpired(absl::Time now) {
  std::vector<std::string> unloaded;
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    std::erase_if(shard.unloaded_expiry, [&](const auto& model) {
      if (model.second > now) return false;
      unloaded.push_back(model.first);
      return true;
    });
  }
  std::vector<SessionPtr> expired;
  for (const std::string& id : unloaded) {
    auto session = FindOrLoad(id);
    if (session.ok() && *session != nullptr) expired.push_back(*std::move(session));
  }
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    std::erase_if(shard.expiring, [&](const std::weak_ptr<session::Session>& weak) {
      auto session = weak.lock();
      if (session == nullptr) return true;
      const auto expire_time = session->ExpireTime();
      if (!expire_time.has_value() || *expire_time > now) return false;
      expired.push_back(std::move(session));
      return true;
    });
  }
  return expired;
}

int64_t SessionCache::resident() {
  size_t sessions = 0;
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    sessions += shard.sessions.size();
  }
  return static_cast<int64_t>(sessions);
}

std::vector<SessionPtr> SessionCache::All() {
  std::vector<SessionPtr> all;
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    all.insert(all.end(), shard.sessions.begin(), shard.sessions.end());
  }
  return all;
}

std::vector<SessionPtr> SessionCache::List(
    absl::string_view after, size_t count,
    absl::FunctionRef<bool(const session::Session&)> matches) {
  std::vector<SessionPtr> list;
  for (Shard& shard : shards_) {
    const base::MutexLock lock(&shard.mu);
    size_t taken = 0;
    for (auto it = shard.sessions.upper_bound(after); it != shard.sessions.end() && taken < count;
         ++it) {
      if (!matches(**it)) continue;
      list.push_back(*it);
      ++taken;
    }
  }
  std::sort(list.begin(), list.end(),
            [](const SessionPtr& a, const SessionPtr& b) { return a->info().id < b->info().id; });
  if (list.size() > count) list.resize(count);
  return list;
}

}  // namespace backprop::registry
