// What the sessions of a server share.
#ifndef BACKPROP_SERVER_SESSION_ENVIRONMENT_H_
#define BACKPROP_SERVER_SESSION_ENVIRONMENT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/engine/spec.h"
#include "server/exec/compute_pool.h"
#include "server/session/memory_budget.h"
#include "server/session/run.h"
#include "server/store/store.h"

namespace backprop::session {

// A spec that was stored.
struct DecodedSpec {
  engine::NetworkSpec spec;
  std::vector<std::string> class_names;
  std::vector<std::string> feature_names;
};

class Datasets;

struct Environment {
  exec::ComputePool* pool;
  const base::Clock* clock;
  base::Limits limits;
  // Is told of each run that ends, for the log.
  std::function<void(const Run&, const RunSummary&)> on_run_end;
  // Where models are kept; null: in memory alone.
  store::Store* store = nullptr;
  // Where checkpoints and datasets are kept: `store`, or one in memory. Never null in a server.
  store::Store* archive = nullptr;
  // Reads what Registry::CreateArgs::spec_record held.
  std::function<absl::StatusOr<DecodedSpec>(absl::string_view)> decode_spec = {};
  // For runs that go on. Null: there are none in this process.
  Datasets* datasets = nullptr;
  // Is told what an operator should know, in a line.
  std::function<void(const std::string&)> on_warning = {};
  MemoryBudget memory{&limits};
  std::atomic<int64_t> runs_under_way{0};
  std::atomic<bool> draining{false};   // no run starts any more
  std::atomic<bool> restoring{false};  // a backup is being restored: there are no models

  // Models whose run waits for the store to work again. Thread-safe.
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
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ENVIRONMENT_H_
