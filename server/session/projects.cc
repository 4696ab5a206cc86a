#include "server/session/projects.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::session {

const char* NameOf(Resource resource) {
  switch (resource) {
    case Resource::kModels:
      return "models";
    case Resource::kParameters:
      return "parameters";
    case Resource::kRuns:
      return "concurrent_runs";
  }
  return "?";
}

std::optional<int64_t> Project::limit(Resource resource) const {
  const int64_t limit = at(resource).limit.load();
  return limit == kNoLimit ? std::nullopt : std::optional<int64_t>(limit);
}

std::optional<double> Project::requests_per_second() const {
  const base::MutexLock lock(&mu_);
  return has_rate_ ? std::optional<double>(rate_) : std::nullopt;
}

absl::Status Project::Take(Resource resource, int64_t amount) {
  Use& use = at(resource);
  const int64_t limit = use.limit.load();
  const int64_t used = use.used.fetch_add(amount);
  if (limit == kNoLimit || used + amount <= limit) return absl::OkStatus();
  use.used.fetch_sub(amount);
  return Exceeded(NameOf(resource), absl::StrCat(limit), absl::StrCat(used), std::nullopt);
}

absl::Status Project::TakeRequest(absl::Time now) {
  if (!has_rate_.load(std::memory_order_relaxed)) return absl::OkStatus();
  const base::MutexLock lock(&mu_);
  if (rate_ <= 0) return absl::OkStatus();
  const double most = std::max(rate_, 1.0);
  if (now > filled_) {
    const double seconds =
        filled_ == absl::InfinitePast() ? 1e9 : absl::ToDoubleSeconds(now - filled_);
    tokens_ = std::min(most, tokens_ + rate_ * seconds);
    filled_ = now;
  }
  if (tokens_ >= 1) {
    tokens_ -= 1;
    return absl::OkStatus();
  }
  return Exceeded(kRequestsPerSecond, absl::StrCat(rate_), absl::StrCat(rate_),
                  absl::Seconds((1 - tokens_) / rate_));
}

absl::Status Project::Exceeded(absl::string_view quota, absl::string_view limit,
                               absl::string_view use,
                               std::optional<absl::Duration> retry_after) const {
  return base::ReasonError(absl::StatusCode::kResourceExhausted,
                           absl::StrCat("project ", name_, ": the quota of ", quota, " is ", limit,
                                        ", and ", use, " are in use"),
                           {"QUOTA_EXCEEDED",
                            {{"project", name_},
                             {"quota", std::string(quota)},
                             {"limit", std::string(limit)},
                             {"use", std::string(use)}},
                            retry_after});
}

void Project::Set(const Quota& quota) {
  for (size_t i = 0; i < kResources; ++i) uses_[i].limit = quota.limits[i].value_or(kNoLimit);
  weight_ = quota.weight;
  if (share_ != nullptr) share_->SetWeight(quota.weight);
  const base::MutexLock lock(&mu_);
  rate_ = quota.requests_per_second.value_or(0);
  has_rate_ = rate_ > 0;
}

Project* Projects::FindOrCreate(absl::string_view name) {
  const auto found = projects_.find(name);
  if (found != projects_.end()) return &found->second;
  exec::ComputePool::Share* const share = pool_ != nullptr ? (*pool_)->NewShare() : nullptr;
  const auto created = projects_.emplace(std::piecewise_construct, std::forward_as_tuple(name),
                                         std::forward_as_tuple(std::string(name), share));
  return &created.first->second;
}

Project* Projects::Of(absl::string_view name) {
  const base::MutexLock lock(&mu_);
  return FindOrCreate(name);
}

Project* Projects::Find(absl::string_view name) {
  const base::MutexLock lock(&mu_);
  const auto found = projects_.find(name);
  return found == projects_.end() ? nullptr : &found->second;
}

void Projects::SetQuotas(const std::map<std::string, Quota>& quotas) {
  const base::MutexLock lock(&mu_);
  for (const auto& [name, quota] : quotas) FindOrCreate(name);
  for (auto& [name, project] : projects_) {
    const auto quota = quotas.find(name);
    project.Set(quota != quotas.end() ? quota->second : Quota());
  }
}

std::vector<Project*> Projects::All() {
  std::vector<Project*> all;
  const base::MutexLock lock(&mu_);
  for (auto& [name, project] : projects_) all.push_back(&project);
  return all;
}

}  // namespace backprop::session
