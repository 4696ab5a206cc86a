// Reads the rows of a dataset from the store.
#ifndef BACKPROP_SERVER_DATASETS_READER_H_
#define BACKPROP_SERVER_DATASETS_READER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/data.h"
#include "server/records/dataset_info.h"
#include "server/session/memory_budget.h"
#include "server/store/store.h"

namespace backprop::datasets {

// Datasets with more bytes than this are read into unnamed files in the scratch directory, which
// are mapped: the operating system decides how much of them is in memory.
inline constexpr int64_t kMostHeapBytes = int64_t{64} << 20;

struct ReadArgs {
  store::Store* store = nullptr;
  std::string scratch_dir;                             // empty: all rows are read into memory
  engine::DataType type = engine::DataType::kFloat32;  // of the result
  std::vector<int32_t> classes;                        // new number of each class; empty: same
  const std::atomic<bool>* stop = nullptr;             // when true: UNAVAILABLE; may be null
  session::MemoryBudget* memory = nullptr;             // counts rows in memory; may be null
  // This process has counted the rows, so that the description is true. Otherwise the records are
  // counted before memory is taken for many rows.
  bool counted = false;
};

// Reads and checks all rows. Blocks. Errors: DATA_LOSS naming the dataset; RESOURCE_EXHAUSTED if
// the disk of the scratch directory is full or the rows do not fit into memory; UNAVAILABLE.
absl::StatusOr<std::shared_ptr<const engine::Dataset>> ReadDataset(const records::DatasetInfo& info,
                                                                   const ReadArgs& args);

}  // namespace backprop::datasets

#endif  // BACKPROP_SERVER_DATASETS_READER_H_
