// Memory of this process, as seen by the system and the allocator.
#ifndef BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_
#define BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace backprop::ops {

// Memory of a server without models: code, threads, gRPC.
inline constexpr int64_t kProcessBytes = int64_t{48} << 20;

// Returns the store's part of a memory limit: a quarter, at least 8 MiB, at most `most`.
constexpr int64_t StoreShare(int64_t limit, int64_t most) {
  return std::min(most, std::max(limit / 4, int64_t{8} << 20));
}

// Returns the resident size in bytes, or 0 if it cannot be read.
int64_t ResidentBytes();

// Configures how much free memory the allocator keeps. Call before any thread exists. `limit` is
// the process's memory limit, 0 for none; `threads` is the number of compute threads.
void TuneAllocator(int64_t limit, int threads);

inline constexpr std::chrono::milliseconds kTrimmerInterval{100};

// Returns freed memory to the system while the process holds more than `limit` bytes; 0: never.
// A trim blocks allocations for milliseconds, so one that gains little is not soon repeated, unless
// the process has grown since. Call Tick() every kTrimmerInterval, from one thread.
class Trimmer {
 public:
  explicit Trimmer(int64_t limit) : limit_(limit) {}
  void Tick();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLastPause{60};

  const int64_t limit_;
  Clock::duration pause_ = kTrimmerInterval;
  Clock::time_point next_;
  int64_t trimmed_ = 0;  // resident bytes after the last trim
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_
