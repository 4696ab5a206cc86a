// Objects that all sessions of a server share.
#ifndef BACKPROP_SERVER_SESSION_ENVIRONMENT_H_
#define BACKPROP_SERVER_SESSION_ENVIRONMENT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"
#include "server/records/run_events.h"
#include "server/session/memory_budget.h"
#include "server/session/projects.h"
#include "server/session/run.h"
#include "server/session/work_counters.h"
#include "server/store/store.h"

namespace backprop::session {

class RowSource;

// Does not own the objects that its pointers refer to; they must outlive the sessions.
struct Environment {
  exec::ComputePool* pool;
  const base::Clock* clock;
  base::Limits limits;
  // Called for each run that ends, to log it.
  std::function<void(const Run&, const records::RunSummary&)> on_run_end;
  // Store of models; null: models are only in memory.
  store::Store* store = nullptr;
  // Store of bulk data, such as checkpoints: `store`, or one in memory. Never null in a server.
  store::Store* archive = nullptr;
  // For runs that resume. Null: there are no stored rows.
  RowSource* row_source = nullptr;
  // Called with messages for the operator, one line each.
  std::function<void(const std::string&)> on_warning = {};
  MemoryBudget memory{&limits};
  Projects projects{&pool};
  std::atomic<int64_t> runs_under_way{0};
  std::atomic<bool> draining{false};   // requests for models fail, and no run starts
  std::atomic<bool> restoring{false};  // a backup is being restored; there are no models

  // Models whose run is parked until the store works again. Thread-safe.
  void AddParked(const std::string& id) {
    const base::MutexLock lock(&parked_mu);
    parked.push_back(id);
  }
  std::vector<std::string> TakeParked() {
    const base::MutexLock lock(&parked_mu);
    return std::exchange(parked, {});
  }
  base::Mutex parked_mu = {};
  std::vector<std::string> parked ABSL_GUARDED_BY(parked_mu) = {};

  WorkCounters work_counters = {};
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ENVIRONMENT_H_
