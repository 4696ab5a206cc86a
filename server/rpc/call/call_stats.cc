#include "server/rpc/call/call_stats.h"

#include <memory>

#include "server/base/status.h"
#include "server/records/project.h"

namespace backprop::rpc {
namespace {

struct Names {
  base::Mutex mu;
  std::vector<std::string> names ABSL_GUARDED_BY(mu) = {records::kDefaultProject};
};

Names& TheNames() {
  static auto* names = new Names();
  return *names;
}

}  // namespace

size_t CountedProject(absl::string_view name) {
  Names& all = TheNames();
  const base::MutexLock lock(&all.mu);
  for (size_t i = 0; i < all.names.size(); ++i) {
    if (all.names[i] == name) return i;
  }
  if (all.names.size() == kMostCountedProjects - 1) return kMostCountedProjects - 1;
  all.names.emplace_back(name);
  return all.names.size() - 1;
}

std::string CountedProjectName(size_t number) {
  Names& all = TheNames();
  const base::MutexLock lock(&all.mu);
  return number < all.names.size() ? all.names[number] : "(other)";
}

CallStats::~CallStats() {
  for (const auto& project : projects_) delete project.load();
}

CallStats::Method* CallStats::Add(const char* name) {
  for (Method& method : methods_) {
    if (absl::string_view(method.name()) == name) return &method;
  }
  return &methods_.emplace_back(name, methods_.size());
}

CallStats::Project* CallStats::Get(size_t project) {
  std::atomic<Project*>& place = projects_[project];
  Project* found = place.load(std::memory_order_acquire);
  if (found != nullptr) return found;
  auto made = std::make_unique<Project>();
  for (Cells& cells : *made) {
    cells.calls = std::vector<std::array<std::atomic<int64_t>, kCodes>>(methods_.size());
  }
  if (place.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel)) {
    return made.release();
  }
  return found;
}

void CallStats::End(Method* method, size_t project, absl::StatusCode code,
                    std::chrono::nanoseconds time) {
  method->times_.Add(time);
  auto& calls = (*Get(project))[base::CounterShard()].calls[method->index_];
  const auto known = static_cast<size_t>(code) < kCodes ? code : absl::StatusCode::kUnknown;
  calls[static_cast<size_t>(known)].fetch_add(1, std::memory_order_relaxed);
}

void CallStats::CountReason(const absl::Status& error) {
  const auto reason = base::ReasonOf(error);
  if (!reason.has_value()) return;
  const base::MutexLock lock(&mu_);
  const auto it = reasons_.find(reason->reason);
  if (it != reasons_.end()) {
    ++it->second;
  } else {
    ++reasons_[reasons_.size() + 1 < kMostReasons ? reason->reason : "OTHER"];
  }
}

std::vector<CallStats::Ended> CallStats::ended() const {
  std::vector<Ended> all;
  for (size_t number = 0; number < projects_.size(); ++number) {
    const Project* const project = projects_[number].load(std::memory_order_acquire);
    if (project == nullptr) continue;
    for (const Method& method : methods_) {
      for (size_t code = 0; code < kCodes; ++code) {
        int64_t calls = 0;
        for (const Cells& cells : *project) {
          calls += cells.calls[method.index_][code].load(std::memory_order_relaxed);
        }
        if (calls == 0) continue;
        all.push_back({method.name(), number, static_cast<absl::StatusCode>(code), calls});
      }
    }
  }
  return all;
}

std::map<std::string, int64_t> CallStats::reasons() const {
  const base::MutexLock lock(&mu_);
  return {reasons_.begin(), reasons_.end()};
}

}  // namespace backprop::rpc
