// Bounds on what callers can make the server hold and do. Every one has a flag (server/ops).
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
  // What the process should hold in memory (memory_budget.h): models used least recently stay in
  // the store alone, work that does not fit is refused. 0: no limit.
  int64_t memory_limit_bytes = 0;
  int64_t memory_fixed_bytes = 0;  // of it, what the process and the store's caches take
  // How often a run's work is stored: what a crash can cost it.
  absl::Duration mark_interval = absl::Seconds(1);
};

// Bounds that nobody needs to turn.
inline constexpr int64_t kSessionBytes = 2'560;        // of a session beside its numbers, about
inline constexpr int64_t kUncountedBytes = 256 << 10;  // requests and steps below are not counted
inline constexpr int64_t kLayerBytes = 256;            // of each layer's description
inline constexpr int64_t kLabelBytes = 128;            // of each label beside its text
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kModelRequestWindow = 64;       // remembered request ids of a model
inline constexpr size_t kRegistryRequestWindow = 1024;  // of each of the registry's 16 shards
inline constexpr absl::Duration kRequestWindowAge = absl::Minutes(10);
inline constexpr double kRowSumTolerance = 1e-3;  // of targets that are probabilities
inline constexpr size_t kMaxDatasets = 10'000;
inline constexpr int64_t kMaxDatasetRows = (int64_t{1} << 31) - 1;
inline constexpr size_t kMaxDatasetClassNames = 4096;
inline constexpr absl::Duration kUploadAge = absl::Minutes(10);  // of one that nobody goes on with
inline constexpr absl::Duration kUploadAgeWithoutRoom = absl::Seconds(10);  // on a full disk
inline constexpr size_t kMaxWaitingRuns = 16;    // Train calls that wait for one model
inline constexpr size_t kKeptEvents = 128;       // newest events of a run
inline constexpr int64_t kMaxCheckpoints = 100;  // of a model, beside its runs' periodic ones
inline constexpr int64_t kMostKeptLast = 50;     // of these

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_LIMITS_H_
