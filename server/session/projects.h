// The projects of a server: what each may use, and what it uses.
#ifndef BACKPROP_SERVER_SESSION_PROJECTS_H_
#define BACKPROP_SERVER_SESSION_PROJECTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"

namespace backprop::session {

// What is counted for each project.
enum class Resource {
  kModels,
  kParameters,     // of all models, with the values of their optimisers
  kRuns,           // that are under way
  kStoredBytes,    // what is stored of the project (metered_store.h), and is being stored
  kBytesInFlight,  // of requests that were received and have no response yet
};
inline constexpr Resource kResources[] = {Resource::kModels, Resource::kParameters, Resource::kRuns,
                                          Resource::kStoredBytes, Resource::kBytesInFlight};
const char* NameOf(Resource resource);  // "models"

// What is limited in each second.
enum class Rate { kRequests, kRows };
inline constexpr Rate kRates[] = {Rate::kRequests, Rate::kRows};
const char* NameOf(Rate rate);  // "requests_per_second"

// What a project may use. Unset: as much as the server allows.
struct Quota {
  std::array<std::optional<int64_t>, std::size(kResources)> limits;  // by Resource
  std::array<std::optional<double>, std::size(kRates)> rates;        // by Rate, per second
  double weight = 1;  // of its share of the compute pool

  std::optional<int64_t>& of(Resource resource) { return limits[static_cast<size_t>(resource)]; }
  std::optional<double>& of(Rate rate) { return rates[static_cast<size_t>(rate)]; }
};

// A token bucket: `per_second` tokens are added in a second, up to those of one second, and at
// least one. Thread-safe.
class TokenBucket {
 public:
  // Unset or 0: everything is admitted. The tokens stay.
  void SetRate(std::optional<double> per_second);
  std::optional<double> rate() const;
  // Takes `amount` tokens and returns zero, or returns the time after which they can be taken. More
  // tokens than the bucket can hold are admitted when it is full; the missing ones are a debt, so
  // that the average is kept. `used`: set to the tokens that a full bucket had more, if not null.
  absl::Duration Take(double amount, absl::Time now, double* used = nullptr);

 private:
  std::atomic<bool> limits_{false};
  mutable base::Mutex mu_;
  double rate_ ABSL_GUARDED_BY(mu_) = 0;
  double tokens_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time filled_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

// One project. Thread-safe.
class Project {
 public:
  Project(std::string name, exec::ComputePool::Share* share)
      : name_(std::move(name)), share_(share) {}

  const std::string& name() const { return name_; }
  exec::ComputePool::Share* share() const { return share_; }
  int64_t used(Resource resource) const { return at(resource).used.load(); }
  // Unset: no limit.
  std::optional<int64_t> limit(Resource resource) const;

  std::optional<double> limit(Rate rate) const { return bucket(rate).rate(); }
  double weight() const { return weight_.load(); }

  // Counts `amount` more. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED) with quota, limit and use if the
  // limit would be exceeded.
  absl::Status Take(Resource resource, int64_t amount);
  // An amount that is counted until the claim is destroyed. The project must outlive it.
  // Thread-compatible.
  class Claim {
   public:
    Claim() = default;
    Claim(Claim&& other) noexcept { *this = std::move(other); }
    Claim& operator=(Claim&& other) noexcept {
      std::swap(project_, other.project_);
      std::swap(resource_, other.resource_);
      std::swap(amount_, other.amount_);
      return *this;
    }
    ~Claim() {
      if (project_ != nullptr) project_->Release(resource_, amount_);
    }

   private:
    friend class Project;
    Claim(Project* project, Resource resource, int64_t amount)
        : project_(project), resource_(resource), amount_(amount) {}

    Project* project_ = nullptr;
    Resource resource_ = Resource::kModels;
    int64_t amount_ = 0;
  };
  // Take() for what is released by itself. For bytes in flight the error says when to try again,
  // unless the amount alone exceeds the quota.
  absl::StatusOr<Claim> Ask(Resource resource, int64_t amount);
  // Whether Take() would succeed now.
  bool HasRoom(Resource resource, int64_t amount) const {
    return Fits(at(resource).limit.load(), at(resource).used.load(), amount);
  }
  // Counts `amount` more of what exists already, whatever the limit is.
  void Count(Resource resource, int64_t amount) { at(resource).used.fetch_add(amount); }
  void Release(Resource resource, int64_t amount) { at(resource).used.fetch_sub(amount); }
  // Counts as if nothing had been taken.
  void Reset(Resource resource) { at(resource).used = 0; }

  // Counts `amount` requests or rows. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED) with the time after which
  // a retry can succeed. A project that was idle may use the amount of one second at once.
  absl::Status Take(Rate rate, int64_t amount, absl::Time now);

 private:
  friend class Projects;
  static constexpr int64_t kNoLimit = -1;
  // Without a sum that may overflow, because stored records can claim any use.
  static bool Fits(int64_t limit, int64_t used, int64_t amount) {
    return limit == kNoLimit || amount <= limit - std::max<int64_t>(used, 0);
  }
  struct Use {
    std::atomic<int64_t> used{0};
    std::atomic<int64_t> limit{kNoLimit};
  };
  Use& at(Resource resource) { return uses_[static_cast<size_t>(resource)]; }
  const Use& at(Resource resource) const { return uses_[static_cast<size_t>(resource)]; }
  TokenBucket& bucket(Rate rate) { return buckets_[static_cast<size_t>(rate)]; }
  const TokenBucket& bucket(Rate rate) const { return buckets_[static_cast<size_t>(rate)]; }
  // `needed`: what was asked for.
  absl::Status Exceeded(const char* quota, double limit, double use, int64_t needed,
                        std::optional<absl::Duration> retry_after) const;
  void Set(const Quota& quota);

  const std::string name_;
  exec::ComputePool::Share* const share_;
  std::array<Use, std::size(kResources)> uses_;
  std::array<TokenBucket, std::size(kRates)> buckets_;
  std::atomic<double> weight_{1};
};

// Thread-safe.
class Projects {
 public:
  // `pool` is read when a project is used for the first time. Null: projects have no shares.
  explicit Projects(exec::ComputePool* const* pool) : pool_(pool) {}

  // The project with this name. Exists as long as this object.
  Project* Of(absl::string_view name);
  // The same; null if it has no quota and was not used.
  Project* Find(absl::string_view name);
  // Replaces the quotas of all projects. A project that is not in `quotas` has none. A limit below
  // the present use ends nothing; it only rejects more.
  void SetQuotas(const std::map<std::string, Quota>& quotas);
  // All projects that have a quota or were used, by name.
  std::vector<Project*> All();

 private:
  Project* FindOrCreate(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  exec::ComputePool* const* const pool_;
  base::Mutex mu_;
  std::map<std::string, Project, std::less<>> projects_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_PROJECTS_H_
