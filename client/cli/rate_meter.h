// The speed of a run, measured by the client.
#ifndef BACKPROP_CLIENT_CLI_RATE_METER_H_
#define BACKPROP_CLIENT_CLI_RATE_METER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

namespace backprop::cli {

// Iterations per second over the last reports. It counts from the first report on, which excludes
// the time before the first iteration (reading a dataset, waiting for another run), and over at
// most kWindow, so that it follows a run that becomes slower or faster. Thread-compatible.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kWindow{30000};
  // Reports that arrive within this time (past events of a watched run) count as one.
  static constexpr std::chrono::milliseconds kTogether{100};

  // Adds a report of `iteration` that arrived at `now`, which must not decrease.
  void Add(int64_t iteration, Clock::time_point now);
  // Returns nothing until there are two reports at least kTogether apart.
  std::optional<double> PerSecond() const;

 private:
  struct Report {
    Clock::time_point first;  // arrival of the first report of the group
    Clock::time_point last;
    int64_t iteration;  // iteration of the last report
  };
  std::deque<Report> reports_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_RATE_METER_H_
