#include "server/exec/queue_delay.h"

namespace backprop::exec {
namespace {

int64_t Nanos(DelayState::TimePoint time) {
  return DelayState::Duration(time.time_since_epoch()).count();
}

}  // namespace

void DelayState::Observe(TimePoint now, Duration waited, bool empty, Duration target) {
  // Most entries change nothing, and then do not write.
  const bool above = waited > target && !empty && target > Duration::zero();
  const bool was_above = above_since_.load(std::memory_order_relaxed) != 0;
  if (above != was_above) above_since_.store(above ? Nanos(now) : 0, std::memory_order_relaxed);
}

bool DelayState::Refuses(TimePoint now, Duration wait, Duration target) {
  if (target <= Duration::zero() || wait <= target) return false;
  const int64_t at = Nanos(now);
  const int64_t interval = (kInterval * target).count();
  const int64_t since = above_since_.load(std::memory_order_relaxed);
  const bool stands = since != 0 && at - since >= interval;
  const bool refuses =
      stands || at < overloaded_until_.load(std::memory_order_relaxed) || wait > kBurst * target;
  if (refuses) overloaded_until_.store(at + interval, std::memory_order_relaxed);
  return refuses;
}

void QueueDelay::Leave(TimePoint now, TimePoint joined, int64_t place, Duration target) {
  const bool empty = waiting_.fetch_sub(1, std::memory_order_relaxed) == 1;
  const Duration waited = now - joined;
  // A mean that follows a slower queue at once and a faster one after some entries: the limit holds
  // also when the work becomes more expensive. Concurrent updates may lose one of them.
  const int64_t sample = waited.count() / place;
  const int64_t mean = per_place_.load(std::memory_order_relaxed);
  per_place_.store(mean + (sample - mean) / (sample > mean ? 2 : 8), std::memory_order_relaxed);
  state_.Observe(now, waited, empty, target);
}

bool QueueDelay::Refuses(TimePoint now, int64_t fewest, Duration target) {
  return waiting() >= fewest && state_.Refuses(now, ExpectedWait(), target);
}

}  // namespace backprop::exec
