// The time, as an interface that tests can implement.
#ifndef BACKPROP_SERVER_BASE_CLOCK_H_
#define BACKPROP_SERVER_BASE_CLOCK_H_

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace backprop::base {

// Thread-safe. Never goes backward.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

// The wall clock at the start of the process plus the time that the steady clock has counted since.
// Changing the machine's clock therefore neither expires a model nor keeps it alive.
class SystemClock final : public Clock {
 public:
  absl::Time Now() const override {
    return start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }

 private:
  const absl::Time start_ = absl::Now();
  const std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_CLOCK_H_
