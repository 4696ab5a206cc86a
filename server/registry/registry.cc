#include "server/registry/registry.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/run_events.h"
#include "server/session/errors.h"

namespace backprop::registry {
namespace {

Description DescribeSession(const SessionPtr& session) {
  Description description;
  description.info = session->info();
  description.network = {session, &session->network()};
  description.create_time = session->create_time();
  description.durability = session->durability();
  description.expire_time = session->ExpireTime();
  session::Session::Activity activity = session->activity();
  description.step = activity.step;
  description.active_run = std::move(activity.active_run);
  return description;
}

}  // namespace

// The same in every process, because responses are stored by the index of their ledgers.
Registry::Ledgers& Registry::LedgersOf(absl::string_view request_id) {
  return ledgers_[XXH3_64bits(request_id.data(), request_id.size()) % ledgers_.size()];
}

std::optional<MaybeSession> Registry::FindResident(absl::string_view id) {
  if (environment_->draining) return session::ShuttingDown();
  if (environment_->restoring) return session::Restoring();
  auto session = cache_.FindResident(id);
  if (!session.has_value()) return std::nullopt;
  if (*session == nullptr) return session::ModelNotFound(records::ModelName(id));
  (*session)->Touch();
  return *std::move(session);
}

void Registry::Find(absl::string_view id, Found found) {
  if (auto resident = FindResident(id); resident.has_value()) return found(*std::move(resident));
  cache_.Load(id, [id = std::string(id), found = std::move(found)](MaybeSession session) mutable {
    if (session.ok() && *session == nullptr) {
      session = session::ModelNotFound(records::ModelName(id));
    }
    if (session.ok()) (*session)->Touch();
    found(std::move(session));
  });
}

std::vector<Description> Registry::ListResident(absl::string_view prefix, absl::string_view after,
                                                size_t count, const Labels& labels) {
  std::vector<Description> list;
  const auto matches = [&](const session::Session& session) {
    return absl::StartsWith(session.info().id, prefix) && HasLabels(session.info().labels, labels);
  };
  for (const SessionPtr& session : cache_.List(std::max(prefix, after), count, matches)) {
    list.push_back(DescribeSession(session));
  }
  return list;
}

absl::StatusOr<std::vector<Description>> Registry::List(absl::string_view prefix,
                                                        absl::string_view after, size_t count,
                                                        const Labels& labels) {
  if (environment_->restoring) return session::Restoring();
  if (environment_->store == nullptr) return ListResident(prefix, after, count, labels);
  std::vector<Description> list;
  // Repeats until there are enough, because the descriptions of some may be damaged.
  for (std::string last(after); list.size() < count;) {
    const size_t wanted = count - list.size();
    std::vector<std::pair<std::string, records::StoredModel>> stored;
    const absl::Status scanned = catalogue_.Scan(
        prefix, last, [&](absl::string_view id, const absl::StatusOr<records::StoredModel>& model) {
          if (!model.ok() || !HasLabels(model->labels, labels)) return true;
          if (!cache_.IsDeleting(id)) stored.emplace_back(id, *model);
          return stored.size() < wanted;
        });
    if (!scanned.ok()) return scanned;
    for (const auto& [id, model] : stored) {
      const auto resident = cache_.FindResident(id);
      if (resident.has_value() && *resident != nullptr) {
        list.push_back(DescribeSession(*resident));
        continue;
      }
      auto description = catalogue_.Describe(id, model);
      if (!description.ok()) continue;
      description->expire_time = cache_.ExpiryOf(id);
      list.push_back(*std::move(description));
    }
    if (stored.size() < wanted) break;
    last = stored.back().first;
  }
  return list;
}

int64_t Registry::ExpireIdle() {
  const std::vector<SessionPtr> expired = cache_.FindExpired(environment_->clock->Now());
  for (const SessionPtr& session : expired) RemoveStored(session, {}, [](const absl::Status&) {});
  return static_cast<int64_t>(expired.size());
}

int64_t Registry::ResumeParked() {
  if (environment_->store == nullptr || !environment_->store->health().ok()) return 0;
  int64_t resumed = 0;
  for (const std::string& id : environment_->TakeParked()) {
    // Loading a model resumes its run.
    const auto session = cache_.FindOrLoad(id);
    if (absl::IsUnavailable(session.status())) environment_->AddParked(id);  // failed again
    resumed += session.ok() && *session != nullptr ? 1 : 0;
  }
  return resumed;
}

void Registry::Drain() {
  environment_->draining = true;
  // The cache stops the run of a session that is loaded from now on.
  for (const SessionPtr& session : cache_.All()) {
    session->StopRun(records::StopReason::kServerShutdown, session::ShuttingDown());
  }
}

}  // namespace backprop::registry
