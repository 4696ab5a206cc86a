// Counters that many threads add to and a collector reads now and then.
#ifndef BACKPROP_SERVER_BASE_COUNTERS_H_
#define BACKPROP_SERVER_BASE_COUNTERS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace backprop::base {

// A counter has one cell for each shard of threads, each in a cache line of its own, so that
// threads that count at the same time seldom wait for each other. Memory order is relaxed: a reader
// sees every cell at some moment during its call.
inline constexpr size_t kCounterShards = 8;
inline constexpr size_t kCacheLineBytes = 64;

// The shard of the calling thread. Threads get shards in turn.
inline size_t CounterShard() {
  static std::atomic<size_t> threads{0};
  thread_local const size_t shard =
      threads.fetch_add(1, std::memory_order_relaxed) % kCounterShards;
  return shard;
}

// A number that only grows. Thread-safe.
class Counter {
 public:
  void Add(int64_t n = 1) { cells_[CounterShard()].value.fetch_add(n, std::memory_order_relaxed); }
  int64_t value() const {
    int64_t sum = 0;
    for (const Cell& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(kCacheLineBytes) Cell {
    std::atomic<int64_t> value{0};
  };
  std::array<Cell, kCounterShards> cells_;
};

// What a histogram holds at one moment.
struct HistogramValues {
  // counts[i]: values above bounds[i - 1] and at most bounds[i]; the last one: above all bounds.
  std::vector<int64_t> counts;
  int64_t sum = 0;

  int64_t count() const {
    int64_t total = 0;
    for (const int64_t bucket : counts) total += bucket;
    return total;
  }
};

// Counts values by size. `kBounds` are the upper bounds of its buckets, in ascending order.
// Thread-safe.
template <const auto& kBounds>
class Histogram {
 public:
  void Add(int64_t value) {
    const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), value);
    Cells& cells = cells_[CounterShard()];
    cells.counts[static_cast<size_t>(bound - kBounds.begin())].fetch_add(1,
                                                                         std::memory_order_relaxed);
    cells.sum.fetch_add(value, std::memory_order_relaxed);
  }
  HistogramValues values() const {
    HistogramValues all;
    all.counts.resize(kBounds.size() + 1);
    for (const Cells& cells : cells_) {
      for (size_t i = 0; i < all.counts.size(); ++i) {
        all.counts[i] += cells.counts[i].load(std::memory_order_relaxed);
      }
      all.sum += cells.sum.load(std::memory_order_relaxed);
    }
    return all;
  }

 private:
  struct alignas(kCacheLineBytes) Cells {
    std::array<std::atomic<int64_t>, kBounds.size() + 1> counts{};
    std::atomic<int64_t> sum{0};
  };
  std::array<Cells, kCounterShards> cells_;
};

// Times from 50 µs to 60 s, in nanoseconds.
inline constexpr std::array<int64_t, 19> kTimeBoundsNanos = {
    50'000,        100'000,        250'000,        500'000,       1'000'000,
    2'500'000,     5'000'000,      10'000'000,     25'000'000,    50'000'000,
    100'000'000,   250'000'000,    500'000'000,    1'000'000'000, 2'500'000'000,
    5'000'000'000, 10'000'000'000, 30'000'000'000, 60'000'000'000};
// Times in nanoseconds.
class TimeHistogram : public Histogram<kTimeBoundsNanos> {
 public:
  void Add(std::chrono::nanoseconds time) { Histogram::Add(time.count()); }
};

// Powers of two from 1 to 4096.
inline constexpr std::array<int64_t, 13> kSizeBounds = {1,   2,   4,   8,    16,   32,  64,
                                                        128, 256, 512, 1024, 2048, 4096};
using SizeHistogram = Histogram<kSizeBounds>;

}  // namespace backprop::base

#endif  // BACKPROP_SERVER_BASE_COUNTERS_H_
