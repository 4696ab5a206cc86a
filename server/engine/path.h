// Which way a network is computed: the one place that decides, from shapes alone, so that the same
// work gives the same bits whatever the machine's load or number of cores.
// docs/performance.md has the measurements behind the numbers.
#ifndef BACKPROP_SERVER_ENGINE_PATH_H_
#define BACKPROP_SERVER_ENGINE_PATH_H_

#include <algorithm>
#include <cstdint>

#include "server/engine/network.h"

namespace backprop::engine {

// How the numbers of a batch lie in a workspace.
enum class Layout {
  kFeatureMajor,  // (units, stride): vectors run over the rows; for narrow layers
  kRowMajor       // (n, units): vectors run over the units
};

// Up to this many features and units in every layer, rows fill vectors better than units do, and
// all weights stay in the nearest cache.
inline constexpr int64_t kNarrow = 32;

inline Layout LayoutOf(const Network& network) {
  return std::max(network.inputs(), network.widest()) <= kNarrow ? Layout::kFeatureMajor
                                                                 : Layout::kRowMajor;
}

// Multiplications of a row-major product (m, k)·(k, n) from which a library's blocking and packing
// pay for their start: oneDNN for float32, Eigen for float64.
inline constexpr int64_t kLibraryProduct = 16 * 1024;

constexpr bool TakesLibrary(int64_t m, int64_t k, int64_t n) {
  return m * k * n >= kLibraryProduct;
}

// A step on many rows is cut into shards of rows whose gradients are added in their order.
struct Shards {
  int64_t count;
  int64_t rows;  // of each but the last; a multiple of kShardUnit
};
inline constexpr int64_t kMostShards = 16;
inline constexpr int64_t kShardUnit = 64;
// Rows of a shard at least, and multiplications of its forward pass: less is not worth a hand-over
// and the addition of its gradients.
inline constexpr int64_t kShardRows = 256;
inline constexpr int64_t kShardCost = 2'000'000;

inline Shards ShardsOf(const Network& network, int64_t rows) {
  const int64_t cost_per_row = network.parameter_count() + 8 * network.units_in_all();
  const int64_t least = std::max(kShardRows, kShardCost / cost_per_row);
  const int64_t most = std::clamp<int64_t>(rows / least, 1, kMostShards);
  const int64_t each = ((rows + most - 1) / most + kShardUnit - 1) / kShardUnit * kShardUnit;
  return {(rows + each - 1) / each, each};
}

// Parameters from which the optimiser's pass alone is worth a hand-over to another thread. A step
// that was cut into shards has threads at hand anyway.
inline constexpr int64_t kParallelParameters = 512 * 1024;

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PATH_H_
