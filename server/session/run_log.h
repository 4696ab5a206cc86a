// The events of a run, for any number of readers at any speed.
#ifndef BACKPROP_SERVER_SESSION_RUN_LOG_H_
#define BACKPROP_SERVER_SESSION_RUN_LOG_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/records/run_events.h"

namespace backprop::session {

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
  explicit RunLog(size_t capacity, records::RunLogImage image = {})
      : capacity_(capacity),
        first_(std::move(image.first)),
        newest_(image.newest.begin(), image.newest.end()),
        count_(image.count) {}

  void Append(records::RunEventBody body);

  // Calls all listeners, although nothing was appended.
  void TellListeners();

  // Approximate maximum of the memory use in bytes after `events` events were appended.
  int64_t MostBytes(int64_t events) const {
    const auto most = static_cast<int64_t>(kKeptFirst + capacity_);
    return std::min(events, most) * int64_t{sizeof(records::RunEventBody)} + 512;
  }

  records::RunLogImage Image() const {
    const base::MutexLock lock(&mu_);
    return {first_, {newest_.begin(), newest_.end()}, count_};
  }

  // Returns the first kept event at or after *next, and sets *next to the number after it. Returns
  // nothing if there is no such event yet. There are no events after the RunSummary.
  std::optional<records::RunEvent> Read(int64_t* next) const;

  // Sequence number of the newest event; 0 if there is none.
  int64_t last_sequence() const {
    const base::MutexLock lock(&mu_);
    return count_;
  }

  // Calls `listener` after every later event, until it is destroyed.
  void Listen(std::weak_ptr<RunListener> listener);

 private:
  static constexpr size_t kKeptFirst = base::kKeptFirstEvents;

  std::vector<std::shared_ptr<RunListener>> Listeners() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t capacity_;
  mutable base::Mutex mu_;
  std::vector<records::RunEventBody> first_ ABSL_GUARDED_BY(mu_);
  std::deque<records::RunEventBody> newest_ ABSL_GUARDED_BY(mu_);
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::weak_ptr<RunListener>> listeners_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RUN_LOG_H_
