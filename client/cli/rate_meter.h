// How fast a run is, as one who follows it sees.
#ifndef BACKPROP_CLIENT_CLI_RATE_METER_H_
#define BACKPROP_CLIENT_CLI_RATE_METER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

namespace backprop::cli {

// Iterations a second over the last reports: from the first one on, so that what came before the
// first iteration (the reading of a dataset, a wait for another run) does not count, and over at
// most kWindow, so that it follows a run that gets slower or faster.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kWindow{30000};
  // Reports that arrive together (the past of a run that is watched) are one.
  static constexpr std::chrono::milliseconds kTogether{100};

  // A report of `iteration` that arrived at `now`, which must not go back.
  void Add(int64_t iteration, Clock::time_point now);
  // Nothing before there are two reports kTogether apart.
  std::optional<double> PerSecond() const;

 private:
  struct Report {
    Clock::time_point first;  // of those that arrived together
    Clock::time_point last;
    int64_t iteration;  // of the last
  };
  std::deque<Report> reports_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_RATE_METER_H_
