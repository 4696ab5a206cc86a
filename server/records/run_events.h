// The events of a run.
#ifndef BACKPROP_SERVER_RECORDS_RUN_EVENTS_H_
#define BACKPROP_SERVER_RECORDS_RUN_EVENTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "server/records/metrics.h"

namespace backprop::records {

enum class StopReason {
  kCompleted,
  kStopped,
  kCancelled,
  kDiverged,
  kModelDeleted,
  kServerShutdown,
  kEarlyStopped,
  kDataLost
};
inline constexpr size_t kStopReasons = 8;
const char* NameOf(StopReason reason);  // "early_stopped", in logs and metrics

struct RunStarted {
  int64_t total_iterations = 0;
  int64_t iterations_per_epoch = 0;
  int64_t rows = 0;
  int64_t start_step = 0;
  int64_t validation_rows = 0;
};

struct Progress {
  int64_t iteration = 0;
  int64_t total_iterations = 0;
  int64_t epoch = 0;
  int64_t step = 0;
  Metrics metrics;
  double learning_rate = 0;
  double gradient_norm = 0;
  double samples_per_second = 0;
  absl::Duration eta;
  std::optional<Metrics> validation;  // after the last complete epoch
};

struct RunSummary {
  StopReason stop_reason = StopReason::kCompleted;
  int64_t iterations = 0;
  int64_t step = 0;
  std::optional<Metrics> metrics;  // unset if the run ended before they were measured
  absl::Duration elapsed;
  std::string message;
  std::optional<Metrics> validation;
  int64_t best_iteration = 0;  // with early stopping: the last iteration of the best epoch
  double best_loss = 0;
  bool restored_best = false;
};

using RunEventBody = std::variant<RunStarted, Progress, RunSummary>;

struct RunEvent {
  int64_t sequence = 0;  // from 1, without gaps
  int64_t dropped = 0;   // skipped since the reader's previous event
  RunEventBody body;
};

// The kept events of a run: the first ones, the newest ones, and how many there were in all.
struct RunLogImage {
  std::vector<RunEventBody> first;
  std::vector<RunEventBody> newest;
  int64_t count = 0;
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_RUN_EVENTS_H_
