#include "server/session/projects.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::session {
namespace {

// After this time, other requests of a project have probably ended.
constexpr absl::Duration kRetryInFlight = absl::Milliseconds(100);

}  // namespace

const char* NameOf(Resource resource) {
  switch (resource) {
    case Resource::kModels:
      return "models";
    case Resource::kParameters:
      return "parameters";
    case Resource::kRuns:
      return "concurrent_runs";
    case Resource::kStoredBytes:
      return "stored_bytes";
    case Resource::kBytesInFlight:
      return "bytes_in_flight";
  }
  return "?";
}

const char* NameOf(Rate rate) {
  switch (rate) {
    case Rate::kRequests:
      return "requests_per_second";
    case Rate::kRows:
      return "rows_per_second";
  }
  return "?";
}

std::optional<int64_t> Project::limit(Resource resource) const {
  const int64_t limit = at(resource).limit.load();
  return limit == kNoLimit ? std::nullopt : std::optional<int64_t>(limit);
}

void TokenBucket::SetRate(std::optional<double> per_second) {
  const base::MutexLock lock(&mu_);
  rate_ = per_second.value_or(0);
  limits_ = rate_ > 0;
}

std::optional<double> TokenBucket::rate() const {
  const base::MutexLock lock(&mu_);
  return rate_ > 0 ? std::optional<double>(rate_) : std::nullopt;
}

absl::Duration TokenBucket::Take(double amount, absl::Time now, double* used) {
  if (!limits_.load(std::memory_order_relaxed)) return absl::ZeroDuration();
  const base::MutexLock lock(&mu_);
  if (rate_ <= 0) return absl::ZeroDuration();
  const double most = std::max(rate_, 1.0);
  if (filled_ == absl::InfinitePast()) {
    tokens_ = most;
    filled_ = now;
  } else if (now > filled_) {
    tokens_ += rate_ * absl::ToDoubleSeconds(now - filled_);
    filled_ = now;
  }
  tokens_ = std::min(tokens_, most);
  if (used != nullptr) *used = most - tokens_;
  const double needed = std::min(amount, most);
  if (tokens_ < needed) return absl::Seconds((needed - tokens_) / rate_);
  tokens_ -= amount;
  return absl::ZeroDuration();
}

absl::Status Project::Take(Resource resource, int64_t amount) {
  Use& use = at(resource);
  const int64_t limit = use.limit.load();
  const int64_t used = use.used.fetch_add(amount);
  if (Fits(limit, used, amount)) return absl::OkStatus();
  use.used.fetch_sub(amount);
  // Requests in flight end soon, unless the quota is too small for this one.
  const bool helps = resource == Resource::kBytesInFlight && amount <= limit;
  return Exceeded(NameOf(resource), static_cast<double>(limit), static_cast<double>(used), amount,
                  helps ? std::make_optional(kRetryInFlight) : std::nullopt);
}

absl::StatusOr<Project::Claim> Project::Ask(Resource resource, int64_t amount) {
  absl::Status taken = Take(resource, amount);
  if (!taken.ok()) return taken;
  return Claim(this, resource, amount);
}

absl::Status Project::Take(Rate rate, int64_t amount, absl::Time now) {
  double used = 0;
  const absl::Duration wait = bucket(rate).Take(static_cast<double>(amount), now, &used);
  if (wait == absl::ZeroDuration()) return absl::OkStatus();
  return Exceeded(NameOf(rate), bucket(rate).rate().value_or(0), std::ceil(used), amount, wait);
}

absl::Status Project::Exceeded(const char* quota, double limit, double use, int64_t needed,
                               std::optional<absl::Duration> retry_after) const {
  const auto exact = [](double number) {
    return number == std::floor(number) ? absl::StrCat(static_cast<int64_t>(number))
                                        : absl::StrCat(number);
  };
  return base::ReasonError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("project ", name_, ": the quota of ", quota, " is ", exact(limit), ", and ",
                   exact(use), " are in use",
                   needed == 1 ? "" : absl::StrCat("; ", needed, " more are needed")),
      {"QUOTA_EXCEEDED",
       {{"project", name_}, {"quota", quota}, {"limit", exact(limit)}, {"use", exact(use)}},
       retry_after});
}

void Project::Set(const Quota& quota) {
  for (size_t i = 0; i < uses_.size(); ++i) uses_[i].limit = quota.limits[i].value_or(kNoLimit);
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i].SetRate(quota.rates[i]);
  weight_ = quota.weight;
  if (share_ != nullptr) share_->SetWeight(quota.weight);
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
