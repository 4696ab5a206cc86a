// The events of a run, for any number of readers at any speed.
#ifndef BACKPROP_SERVER_SESSION_RUN_LOG_H_
#define BACKPROP_SERVER_SESSION_RUN_LOG_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/session/metrics.h"

namespace backprop::session {

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

// The complete contents of a RunLog.
struct RunLogImage {
  std::vector<RunEventBody> first;
  std::vector<RunEventBody> newest;
  int64_t count = 0;
};

// OnRunEvent() is called when there may be something to read: by the thread that executes the run
// or by a thread of the store, without a lock held.
class RunListener {
 public:
  virtual ~RunListener() = default;
  virtual void OnRunEvent() = 0;
};

// Keeps the first two events and the newest `capacity`; the last event is a RunSummary. Readers
// keep the sequence number of their next event, so the log does not grow with the number of readers
// or their delay. Thread-safe.
class RunLog {
 public:
  explicit RunLog(size_t capacity, RunLogImage image = {})
      : capacity_(capacity),
        first_(std::move(image.first)),
        newest_(image.newest.begin(), image.newest.end()),
        count_(image.count) {}

  void Append(RunEventBody body);

  // Calls all listeners, although nothing was appended.
  void TellListeners();

  // Approximate maximum of the memory use in bytes after `events` events were appended.
  int64_t MostBytes(int64_t events) const {
    const auto most = static_cast<int64_t>(kKeptFirst + capacity_);
    return std::min(events, most) * int64_t{sizeof(RunEventBody)} + 512;
  }

  RunLogImage Image() const {
    const base::MutexLock lock(&mu_);
    return {first_, {newest_.begin(), newest_.end()}, count_};
  }

  // Returns the first kept event at or after *next, and sets *next to the number after it. Returns
  // nothing if there is no such event yet. There are no events after the RunSummary.
  std::optional<RunEvent> Read(int64_t* next) const;

  // Sequence number of the newest event; 0 if there is none.
  int64_t last_sequence() const {
    const base::MutexLock lock(&mu_);
    return count_;
  }

  // Calls `listener` after every later event, until it is destroyed.
  void Listen(std::weak_ptr<RunListener> listener);

 private:
  static constexpr size_t kKeptFirst = 2;  // RunStarted and the first Progress

  std::vector<std::shared_ptr<RunListener>> Listeners() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t capacity_;
  mutable base::Mutex mu_;
  std::vector<RunEventBody> first_ ABSL_GUARDED_BY(mu_);
  std::deque<RunEventBody> newest_ ABSL_GUARDED_BY(mu_);
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::weak_ptr<RunListener>> listeners_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_LOG_H_
