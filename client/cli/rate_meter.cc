#include "client/cli/rate_meter.h"

namespace backprop::cli {

void RateMeter::Add(int64_t iteration, Clock::time_point now) {
  if (!reports_.empty() && now - reports_.back().first < kTogether) {
    reports_.back().last = now;
    reports_.back().iteration = iteration;
    return;
  }
  reports_.push_back({now, now, iteration});
  while (reports_.size() > 2 && now - reports_[1].last >= kWindow) reports_.pop_front();
}

std::optional<double> RateMeter::PerSecond() const {
  if (reports_.size() < 2) return std::nullopt;
  const double seconds =
      std::chrono::duration<double>(reports_.back().last - reports_.front().last).count();
  const auto iterations =
      static_cast<double>(reports_.back().iteration - reports_.front().iteration);
  if (!(seconds > 0) || !(iterations > 0)) return std::nullopt;
  return iterations / seconds;
}

}  // namespace backprop::cli
