// The projects of a server: what each may use, and what it uses.
#ifndef BACKPROP_SERVER_SESSION_PROJECTS_H_
#define BACKPROP_SERVER_SESSION_PROJECTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"

namespace backprop::session {

// What is counted for each project.
enum class Resource {
  kModels,
  kParameters,  // of all models, with the values of their optimisers
  kRuns,        // that are under way
};
inline constexpr size_t kResources = 3;
const char* NameOf(Resource resource);  // "models"
inline constexpr char kRequestsPerSecond[] = "requests_per_second";

// What a project may use. Unset: as much as the server allows.
struct Quota {
  std::array<std::optional<int64_t>, kResources> limits;  // by Resource
  std::optional<double> requests_per_second;
  double weight = 1;  // of its share of the compute pool

  std::optional<int64_t>& of(Resource resource) { return limits[static_cast<size_t>(resource)]; }
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

  std::optional<double> requests_per_second() const;
  double weight() const { return weight_.load(); }

  // Counts `amount` more. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED) with quota, limit and use if the
  // limit would be exceeded.
  absl::Status Take(Resource resource, int64_t amount);
  // The same for what exists already, whatever the limit is.
  void Count(Resource resource, int64_t amount) { at(resource).used.fetch_add(amount); }
  void Release(Resource resource, int64_t amount) { at(resource).used.fetch_sub(amount); }
  // Counts as if nothing had been taken.
  void Reset(Resource resource) { at(resource).used = 0; }

  // Counts a request against the rate. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED) with the time after
  // which a retry can succeed. A project that was idle may make the requests of one second at once.
  absl::Status TakeRequest(absl::Time now);

 private:
  friend class Projects;
  static constexpr int64_t kNoLimit = -1;
  struct Use {
    std::atomic<int64_t> used{0};
    std::atomic<int64_t> limit{kNoLimit};
  };
  Use& at(Resource resource) { return uses_[static_cast<size_t>(resource)]; }
  const Use& at(Resource resource) const { return uses_[static_cast<size_t>(resource)]; }
  absl::Status Exceeded(absl::string_view quota, absl::string_view limit, absl::string_view use,
                        std::optional<absl::Duration> retry_after) const;
  void Set(const Quota& quota);

  const std::string name_;
  exec::ComputePool::Share* const share_;
  std::array<Use, kResources> uses_;
  std::atomic<double> weight_{1};
  std::atomic<bool> has_rate_{false};
  mutable base::Mutex mu_;
  double rate_ ABSL_GUARDED_BY(mu_) = 0;  // requests per second
  double tokens_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time filled_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
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
