// Limits on what callers can make the server hold and do. Each has a flag (server/ops).
#ifndef BACKPROP_SERVER_BASE_LIMITS_H_
#define BACKPROP_SERVER_BASE_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace backprop::base {

struct Limits {
  int64_t max_models = 1'000'000;
  int64_t max_parameters = 20'000'000;           // of one model
  int64_t max_total_parameters = 1'000'000'000;  // of all models, optimiser state included
  int64_t max_layers = 256;
  int64_t max_rows = 10'000'000;                   // of one request
  int64_t max_workspace_bytes = int64_t{1} << 30;  // of one pass over a batch
  int64_t max_concurrent_runs = 1024;
  int64_t max_message_bytes = int64_t{64} << 20;  // of a request or a reply
  // Memory that the process should use at most (memory_budget.h). With a store, models that were
  // not used recently are evicted from memory; work that does not fit is rejected. 0: no limit.
  int64_t memory_limit_bytes = 0;
  int64_t memory_fixed_bytes = 0;  // part of it that the process and the store's caches use
  // How often the progress of a run is stored: a crash costs a run at most this much work.
  absl::Duration mark_interval = absl::Seconds(1);
};

// Fixed limits and estimates.
inline constexpr int64_t kSessionBytes =
    2'560;  // of a session without its parameters, approximately
inline constexpr int64_t kUncountedBytes = 256 << 10;  // smaller requests and steps are not counted
inline constexpr int64_t kLayerBytes = 256;            // of each layer's description
inline constexpr int64_t kLabelBytes = 128;            // of each label without its text
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kModelRequestWindow = 64;       // recorded request ids of a model
inline constexpr size_t kRegistryRequestWindow = 1024;  // of each of the registry's 16 shards
inline constexpr absl::Duration kRequestWindowAge = absl::Minutes(10);
inline constexpr double kRowSumTolerance = 1e-3;  // of targets that are probabilities
inline constexpr size_t kMaxDatasets = 10'000;
inline constexpr int64_t kMaxDatasetRows = (int64_t{1} << 31) - 1;
inline constexpr int64_t kMaxIterations = int64_t{1} << 53;  // of a run
// The step counts of a model, so that none can overflow: callers may set the first one, and a
// stored one must be at most the second one.
inline constexpr int64_t kMaxSetSteps = int64_t{1} << 61;
inline constexpr int64_t kMaxSteps = int64_t{1} << 62;
inline constexpr size_t kMaxDatasetClassNames = 4096;
inline constexpr absl::Duration kUploadAge = absl::Minutes(10);  // of an upload without new rows
inline constexpr absl::Duration kUploadAgeWithoutRoom =
    absl::Seconds(10);                         // the same on a full disk
inline constexpr size_t kMaxWaitingRuns = 16;  // Train calls that wait for one model
inline constexpr size_t kKeptEvents = 128;     // of a run, the newest ones
inline constexpr size_t kKeptFirstEvents = 2;  // in addition: RunStarted and the first Progress
inline constexpr int64_t kMaxCheckpoints =
    100;                                      // of a model, without the periodic ones of its runs
inline constexpr int64_t kMostKeptLast = 50;  // periodic ones

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_LIMITS_H_
