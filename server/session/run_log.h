// What happened in a run, for any number of readers, at any speed.
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
  std::optional<Metrics> metrics;  // unset when the run was ended before they were measured
  absl::Duration elapsed;
  std::string message;
  std::optional<Metrics> validation;
  int64_t best_iteration = 0;  // with early stopping: where the best epoch ended
  double best_loss = 0;
  bool restored_best = false;
};

using RunEventBody = std::variant<RunStarted, Progress, RunSummary>;

struct RunEvent {
  int64_t sequence = 0;  // from 1, without gaps
  int64_t dropped = 0;   // events between the reader's previous one and this
  RunEventBody body;
};

// Everything a RunLog holds.
struct RunLogImage {
  std::vector<RunEventBody> first;
  std::vector<RunEventBody> newest;
  int64_t count = 0;
};

// Is told, on the run's thread and without a lock held, that there is something to read.
class RunListener {
 public:
  virtual ~RunListener() = default;
  virtual void OnRunEvent() = 0;
};

// Keeps the first two events and the newest `capacity`; the last event is a RunSummary. A reader
// holds the sequence number it wants next: nothing here grows with the number or the slowness of
// readers. Thread-safe.
class RunLog {
 public:
  explicit RunLog(size_t capacity, RunLogImage image = {})
      : capacity_(capacity),
        first_(std::move(image.first)),
        newest_(image.newest.begin(), image.newest.end()),
        count_(image.count) {}

  void Append(RunEventBody body);

  // Has every listener look again, although nothing was appended.
  void TellListeners();

  // What a log holds in memory at most, about, when `events` were appended.
  int64_t MostBytes(int64_t events) const {
    const auto most = static_cast<int64_t>(kKeptFirst + capacity_);
    return std::min(events, most) * int64_t{sizeof(RunEventBody)} + 512;
  }

  RunLogImage Image() const {
    const base::MutexLock lock(&mu_);
    return {first_, {newest_.begin(), newest_.end()}, count_};
  }

  // The first kept event at or after *next, which then moves past it. Nothing if there is none
  // yet. After the RunSummary there is never another one.
  std::optional<RunEvent> Read(int64_t* next) const;

  // The number of the newest event; 0 if there is none.
  int64_t last_sequence() const {
    const base::MutexLock lock(&mu_);
    return count_;
  }

  // `listener` is told of every later event until it is gone.
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
