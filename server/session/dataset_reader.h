// Brings a dataset's rows from the store to where a run can read them.
#ifndef BACKPROP_SERVER_SESSION_DATASET_READER_H_
#define BACKPROP_SERVER_SESSION_DATASET_READER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/data.h"
#include "server/session/dataset_info.h"
#include "server/session/memory_budget.h"
#include "server/store/store.h"

namespace backprop::session {

// Datasets of more bytes than this are read into files without a name in the scratch directory and
// mapped from there: the system keeps in memory what it has room for.
inline constexpr int64_t kMostHeapBytes = int64_t{64} << 20;

struct ReadArgs {
  store::Store* store = nullptr;
  std::string scratch_dir;                             // empty: everything goes to memory
  engine::DataType type = engine::DataType::kFloat32;  // wanted
  std::vector<int32_t> classes;                        // what each class becomes; empty: itself
  const std::atomic<bool>* stop = nullptr;             // ends it with UNAVAILABLE
  MemoryBudget* memory = nullptr;                      // counts rows that go to memory; may be null
};

// All rows, checked piece by piece. Blocks. Errors: DATA_LOSS naming the dataset,
// RESOURCE_EXHAUSTED when the scratch directory's disk is full or the rows do not fit into memory,
// UNAVAILABLE.
absl::StatusOr<std::shared_ptr<const engine::Dataset>> ReadDataset(const DatasetInfo& info,
                                                                   const ReadArgs& args);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_DATASET_READER_H_
