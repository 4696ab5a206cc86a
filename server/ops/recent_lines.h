// The latest lines of a log.
#ifndef BACKPROP_SERVER_OPS_RECENT_LINES_H_
#define BACKPROP_SERVER_OPS_RECENT_LINES_H_

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace backprop::ops {

// Bounded in number and size. Thread-safe.
class RecentLines {
 public:
  // Keeps at most `most_lines` lines of at most `most_bytes` bytes in all. Both must be positive.
  RecentLines(size_t most_lines, size_t most_bytes)
      : most_lines_(most_lines), most_bytes_(most_bytes) {}

  // Adds a line and forgets the oldest ones, as far as needed. A line of more than `most_bytes` is
  // cut, and not inside a UTF-8 character.
  void Add(absl::string_view line);

  // The oldest first.
  std::vector<std::string> lines() const;

 private:
  const size_t most_lines_;
  const size_t most_bytes_;
  mutable base::Mutex mu_;
  std::deque<std::string> lines_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;  // sum of the sizes of lines_
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_RECENT_LINES_H_
