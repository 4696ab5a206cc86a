// Selection of the kernels for a network. All such decisions are made here and depend on shapes
// alone, so that the same work gives the same bits whatever the load and the number of cores of the
// machine. docs/performance.md has the measurements for the thresholds.
#ifndef BACKPROP_SERVER_ENGINE_PATH_H_
#define BACKPROP_SERVER_ENGINE_PATH_H_

#include <algorithm>
#include <cstdint>

#include "server/engine/network.h"

namespace backprop::engine {

// Memory layout of a batch in a workspace.
enum class Layout {
  kFeatureMajor,  // (units, stride): vectors span rows; for narrow layers
  kRowMajor       // (n, units): vectors span units
};

// Largest number of features, and of units in any layer, for kFeatureMajor: up to it rows fill
// vectors better than units do, and all weights fit in the first-level cache.
inline constexpr int64_t kNarrow = 32;

inline Layout LayoutOf(const Network& network) {
  return std::max(network.inputs(), network.widest()) <= kNarrow ? Layout::kFeatureMajor
                                                                 : Layout::kRowMajor;
}

// Number of multiplications of a row-major product (m, k)·(k, n) from which a library is used:
// oneDNN for float32, Eigen for float64. Smaller products do not repay its blocking and packing.
inline constexpr int64_t kLibraryProduct = 16 * 1024;

constexpr bool TakesLibrary(int64_t m, int64_t k, int64_t n) {
  return m * k * n >= kLibraryProduct;
}

// Shards of a batch. A step on a large batch is cut into shards of rows, whose gradients are added
// in the order of the shards.
struct Shards {
  int64_t count;
  int64_t rows;  // rows of each shard but the last; a multiple of kShardUnit
};
inline constexpr int64_t kMostShards = 16;
inline constexpr int64_t kShardUnit = 64;
// Minimum rows of a shard, and minimum multiplications of its forward pass. A smaller shard does
// not repay the handover to another thread and the addition of its gradients.
inline constexpr int64_t kShardRows = 256;
inline constexpr int64_t kShardCost = 2'000'000;

inline Shards ShardsOf(const Network& network, int64_t rows) {
  const int64_t cost_per_row = network.parameter_count() + 8 * network.units_in_all();
  const int64_t least = std::max(kShardRows, kShardCost / cost_per_row);
  const int64_t most = std::clamp<int64_t>(rows / least, 1, kMostShards);
  const int64_t each = ((rows + most - 1) / most + kShardUnit - 1) / kShardUnit * kShardUnit;
  return {(rows + each - 1) / each, each};
}

// Number of parameters from which the optimiser's pass alone is handed to several threads. A step
// that is cut into shards has threads in any case.
inline constexpr int64_t kParallelParameters = 512 * 1024;

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PATH_H_
