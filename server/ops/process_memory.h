// The memory of this process, as the system and the allocator see it.
#ifndef BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_
#define BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace backprop::ops {

// Of a server that holds no model: programs, threads, gRPC.
inline constexpr int64_t kProcessBytes = int64_t{48} << 20;

// What the store may take of a memory limit: a quarter, at least 8 MiB, at most `most`.
constexpr int64_t StoreShare(int64_t limit, int64_t most) {
  return std::min(most, std::max(limit / 4, int64_t{8} << 20));
}

// What is resident now; 0 if that cannot be read.
int64_t ResidentBytes();

// Sets how much free memory the allocator keeps. Call before any thread exists. `limit`: of the
// process, 0 for none; `threads`: that compute.
void TuneAllocator(int64_t limit, int threads);

// Gives memory that was freed back to the system while the process holds more than `limit` bytes.
// Tick is called about once a second, by one thread. A trim that brings little is not repeated
// soon, because it holds up allocations for milliseconds.
class Trimmer {
 public:
  explicit Trimmer(int64_t limit) : limit_(limit) {}
  void Tick();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kFirstPause{1};
  static constexpr std::chrono::seconds kLastPause{60};

  const int64_t limit_;
  std::chrono::seconds pause_ = kFirstPause;
  Clock::time_point next_;
};

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_PROCESS_MEMORY_H_
