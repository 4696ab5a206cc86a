#include "server/ops/recent_lines.h"

#include "server/base/text.h"

namespace backprop::ops {

void RecentLines::Add(absl::string_view line) {
  const absl::string_view kept = base::Cut(line, most_bytes_);
  const base::MutexLock lock(&mu_);
  while (!lines_.empty() && (lines_.size() >= most_lines_ || bytes_ + kept.size() > most_bytes_)) {
    bytes_ -= lines_.front().size();
    lines_.pop_front();
  }
  lines_.emplace_back(kept);
  bytes_ += kept.size();
}

std::vector<std::string> RecentLines::lines() const {
  const base::MutexLock lock(&mu_);
  return {lines_.begin(), lines_.end()};
}

}  // namespace backprop::ops
