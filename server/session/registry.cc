#include "server/session/registry.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "server/session/mutex.h"

namespace backprop::session {
namespace {

// 128 random bits of the operating system's, in hexadecimal.
std::string UnguessableId() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(device(), absl::kZeroPad8));
  return id;
}

absl::Status AlreadyExists(const std::string& id) {
  return ReasonError(absl::StatusCode::kAlreadyExists,
                     absl::StrCat("models/", id, ": exists already"),
                     {"MODEL_EXISTS", {{"model", absl::StrCat("models/", id)}}});
}

bool HasLabels(const Session& session, const std::map<std::string, std::string>& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto it = session.info().labels.find(label.first);
    return it != session.info().labels.end() && it->second == label.second;
  });
}

int64_t NumbersOf(const engine::Network& network) {
  return network.parameter_count() * (1 + network.slot_count());
}

// Adds to a counter unless it would exceed its limit.
bool AddWithin(std::atomic<int64_t>* counter, int64_t amount, int64_t limit) {
  if (counter->fetch_add(amount) + amount <= limit) return true;
  counter->fetch_sub(amount);
  return false;
}

}  // namespace

Registry::Shard& Registry::ShardOf(absl::string_view key) {
  return shards_[absl::HashOf(key) % shards_.size()];
}

std::shared_ptr<Session> Registry::Lookup(absl::string_view id) {
  Shard& shard = ShardOf(id);
  const MutexLock lock(&shard.mu);
  const auto it = shard.models.find(id);
  return it == shard.models.end() ? nullptr : it->second;
}

absl::StatusOr<std::shared_ptr<Session>> Registry::Find(absl::string_view id) {
  if (environment_->draining) return ShuttingDown();
  auto session = Lookup(id);
  if (session == nullptr) return ModelNotFound(absl::StrCat("models/", id));
  session->Touch();
  return session;
}

// Finds the model that a retry's first call made, if any. Else settles the id, the same for all
// retries, and answers nullptr.
absl::StatusOr<std::shared_ptr<Session>> Registry::Reserve(CreateArgs* args) {
  if (args->key.id.empty()) {
    if (args->info.id.empty()) args->info.id = UnguessableId();
    return nullptr;
  }
  Creation creation;
  {
    Shard& shard = ShardOf(args->key.id);
    const MutexLock lock(&shard.mu);
    const absl::Time now = environment_->clock->Now();
    const auto found = shard.creations.Find(args->key, now);
    if (!found.ok()) return found.status();
    if (*found == nullptr) {
      if (args->info.id.empty()) args->info.id = UnguessableId();
      shard.creations.Record(args->key, now, {args->info.id, false});
      return nullptr;
    }
    creation = **found;
  }
  args->info.id = creation.id;
  if (!creation.done) return nullptr;  // failed, or still under way: try, Insert decides
  auto session = Lookup(creation.id);
  if (session == nullptr || session->created_by().id != args->key.id) {
    return ModelDeleted(absl::StrCat("models/", creation.id));
  }
  return session;
}

absl::StatusOr<std::shared_ptr<Session>> Registry::Create(CreateArgs args) {
  if (environment_->draining) return ShuttingDown();
  auto reserved = Reserve(&args);
  if (!reserved.ok() || *reserved != nullptr) return reserved;
  if (const auto existing = Lookup(args.info.id)) {
    const bool ours = !args.key.id.empty() && existing->created_by().id == args.key.id;
    if (ours) return existing;
    return AlreadyExists(args.info.id);
  }
  const Limits& limits = environment_->limits;
  const int64_t numbers = NumbersOf(*args.network);
  if (!AddWithin(&models_, 1, limits.max_models)) {
    return ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("the server holds ", limits.max_models, " models already, which is its limit"),
        {"LIMIT_EXCEEDED", {{"limit", "max_models"}}});
  }
  if (!AddWithin(&parameters_, numbers, limits.max_total_parameters)) {
    models_.fetch_sub(1);
    return ReasonError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat("the model's ", numbers, " numbers would exceed the server's limit of ",
                     limits.max_total_parameters, " over all models"),
        {"LIMIT_EXCEEDED", {{"limit", "max_total_parameters"}}});
  }
  auto session = Insert(&args);
  // A race that another caller won leaves nothing of ours behind.
  if (!session.ok() || (*session)->created_by().id != args.key.id ||
      &(*session)->network() != args.network.get()) {
    models_.fetch_sub(1);
    parameters_.fetch_sub(numbers);
  }
  return session;
}

absl::StatusOr<std::shared_ptr<Session>> Registry::Insert(CreateArgs* args) {
  auto initial = args->initial();
  if (!initial.ok()) return initial.status();
  const std::string id = args->info.id;
  auto session = std::make_shared<Session>(environment_, std::move(args->info), args->network,
                                           *std::move(initial), args->key);
  {
    Shard& shard = ShardOf(id);
    const MutexLock lock(&shard.mu);
    const auto [it, inserted] = shard.models.try_emplace(id, session);
    if (!inserted) {
      const bool ours = !args->key.id.empty() && it->second->created_by().id == args->key.id;
      if (ours) return it->second;
      return AlreadyExists(id);
    }
    if (session->info().ttl.has_value()) shard.mortal.push_back(session);
  }
  if (!args->key.id.empty()) {
    Shard& shard = ShardOf(args->key.id);
    const MutexLock lock(&shard.mu);
    shard.creations.Update(args->key.id, {id, true});
  }
  return session;
}

void Registry::Remove(const std::shared_ptr<Session>& session) {
  Shard& shard = ShardOf(session->info().id);
  {
    const MutexLock lock(&shard.mu);
    const auto it = shard.models.find(session->info().id);
    if (it == shard.models.end() || it->second != session) return;
    shard.models.erase(it);
  }
  models_.fetch_sub(1);
  parameters_.fetch_sub(NumbersOf(session->network()));
  session->Close();
}

absl::Status Registry::Delete(absl::string_view id, const RequestKey& key) {
  if (environment_->draining) return ShuttingDown();
  Shard& shard = ShardOf(key.id);
  const absl::Time now = environment_->clock->Now();
  {
    const MutexLock lock(&shard.mu);
    const auto found = shard.deletions.Find(key, now);
    if (!found.ok()) return found.status();
    if (*found != nullptr) return absl::OkStatus();
  }
  auto session = Lookup(id);
  if (session == nullptr) return ModelNotFound(absl::StrCat("models/", id));
  Remove(session);
  const MutexLock lock(&shard.mu);
  shard.deletions.Record(key, now, {});
  return absl::OkStatus();
}

std::vector<std::shared_ptr<Session>> Registry::List(
    absl::string_view after, size_t count, const std::map<std::string, std::string>& labels) {
  std::vector<std::shared_ptr<Session>> all;
  for (Shard& shard : shards_) {
    const MutexLock lock(&shard.mu);
    size_t taken = 0;
    for (auto it = shard.models.upper_bound(after); it != shard.models.end() && taken < count;
         ++it) {
      if (!HasLabels(*it->second, labels)) continue;
      all.push_back(it->second);
      ++taken;
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a->info().id < b->info().id; });
  if (all.size() > count) all.resize(count);
  return all;
}

int64_t Registry::ExpireIdle() {
  const absl::Time now = environment_->clock->Now();
  std::vector<std::shared_ptr<Session>> expired;
  for (Shard& shard : shards_) {
    const MutexLock lock(&shard.mu);
    std::erase_if(shard.mortal, [&](const std::weak_ptr<Session>& weak) {
      auto session = weak.lock();
      if (session == nullptr) return true;
      const auto expire_time = session->ExpireTime();
      if (!expire_time.has_value() || *expire_time > now) return false;
      expired.push_back(std::move(session));
      return true;
    });
  }
  for (const auto& session : expired) Remove(session);
  return static_cast<int64_t>(expired.size());
}

void Registry::Drain() {
  environment_->draining = true;
  for (Shard& shard : shards_) {
    std::vector<std::shared_ptr<Session>> sessions;
    {
      const MutexLock lock(&shard.mu);
      for (const auto& [id, session] : shard.models) sessions.push_back(session);
    }
    for (const auto& session : sessions) {
      session->StopRun(StopReason::kServerShutdown, ShuttingDown());
    }
  }
}

}  // namespace backprop::session
