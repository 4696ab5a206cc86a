#include "server/ops/process_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace backprop::ops {

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  if (!(file >> total >> resident)) return 0;
  return resident * sysconf(_SC_PAGESIZE);
}

void TuneAllocator(int64_t limit, int threads) {
  // By default, large blocks such as messages and states are returned to the system at once, which
  // must then clear every page again: half of the time of a request with 10 MB of parameters.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  constexpr int64_t kMostKept = int64_t{256} << 20;
  mallopt(M_TRIM_THRESHOLD,
          static_cast<int>(limit == 0 ? kMostKept : std::clamp<int64_t>(limit / 8, 1, kMostKept)));
  // The default is 8 arenas per processor. Memory that a thread frees stays in the arena of the
  // thread that allocated it, so that each arena grows to its own peak.
  mallopt(M_ARENA_MAX, std::max(2, threads));
}

void Trimmer::Tick() {
  if (limit_ == 0) return;
  const int64_t before = ResidentBytes();
  if (before <= limit_) return;
  const bool has_grown = before - trimmed_ > limit_ / 16;
  if (Clock::now() < next_ && !has_grown) return;
  malloc_trim(static_cast<size_t>(limit_) / 16);
  trimmed_ = ResidentBytes();
  const bool worth_it = before - trimmed_ > before / 32;
  pause_ = worth_it ? kTrimmerInterval : std::min<Clock::duration>(2 * pause_, kLastPause);
  next_ = Clock::now() + pause_;
}

}  // namespace backprop::ops
