// Decides which work should be refused, because it would only make a queue longer.
#ifndef BACKPROP_SERVER_EXEC_QUEUE_DELAY_H_
#define BACKPROP_SERVER_EXEC_QUEUE_DELAY_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace backprop::exec {

// Whether a queue is overloaded, by the time that its entries wait. The method is CoDel (Nichols
// and Jacobson, "Controlling Queue Delay", 2012; RFC 8289), in the form that services use (Maurer,
// "Fail at Scale", 2015):
//
//   calm       → overloaded  Every entry has waited for longer than the target, and the queue was
//                            never empty, for one interval: the queue does not shrink, so the work
//                            that is added only waits. Or an entry would wait for kBurst targets.
//   overloaded → calm        Nothing had to be refused for one interval.
//
// While it is calm, a queue may grow: a burst is over within an interval. While it is overloaded,
// entries that would wait for more than the target are refused. CoDel leaves the second state when
// an entry waits for less than the target, because its senders slow down; callers of a service do
// not, so that the queue would grow for another interval.
//
// Thread-safe, without locks. Times are of the steady clock, and the callers pass them, so that
// tests do not wait. A target of 0: nothing is refused.
class DelayState {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::nanoseconds;
  static constexpr int kInterval = 10;  // targets; RFC 8289 suggests a target of 5 to 10 %
  static constexpr int kBurst = 50;     // targets

  // An entry has left the queue after it waited for `waited`. `empty`: no other one waits.
  void Observe(TimePoint now, Duration waited, bool empty, Duration target);

  // Whether an entry that will wait, or has waited, for `wait` should be refused.
  bool Refuses(TimePoint now, Duration wait, Duration target);

 private:
  // In nanoseconds of the steady clock.
  std::atomic<int64_t> above_since_{0};  // first entry of those that waited too long; 0: none
  std::atomic<int64_t> overloaded_until_{0};
};

// A queue whose entries are asked about before they join: it predicts their wait by the number of
// entries and by the time that earlier ones waited for each place. Thread-safe, without locks.
class QueueDelay {
 public:
  using TimePoint = DelayState::TimePoint;
  using Duration = DelayState::Duration;

  // An entry joins. Returns its place, ≥ 1: the number of entries that wait, with this one.
  int64_t Join() { return waiting_.fetch_add(1, std::memory_order_relaxed) + 1; }
  // The entry that joined at `joined` with `place` leaves, because its work starts.
  void Leave(TimePoint now, TimePoint joined, int64_t place, Duration target);

  // Whether another entry should be refused. Never while fewer than `fewest` entries wait, so that
  // there is always work for the threads that become idle.
  bool Refuses(TimePoint now, int64_t fewest, Duration target);

  int64_t waiting() const { return waiting_.load(std::memory_order_relaxed); }
  // How long an entry that joins now would wait.
  Duration ExpectedWait() const {
    return Duration(per_place_.load(std::memory_order_relaxed) * (waiting() + 1));
  }
  // When the entries that wait now will have left, for callers that retry: 50 ms to 5 s.
  Duration RetryAfter() const {
    return std::clamp<Duration>(ExpectedWait(), std::chrono::milliseconds(50),
                                std::chrono::seconds(5));
  }

 private:
  DelayState state_;
  std::atomic<int64_t> waiting_{0};
  std::atomic<int64_t> per_place_{0};  // nanoseconds
};

}  // namespace backprop::exec

#endif  // BACKPROP_SERVER_EXEC_QUEUE_DELAY_H_
