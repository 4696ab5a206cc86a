// The counts and ranges of the rows of a dataset, and whether a model can use them.
#ifndef BACKPROP_SERVER_DATASETS_CONTENTS_H_
#define BACKPROP_SERVER_DATASETS_CONTENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/records/dataset_info.h"
#include "server/records/model_info.h"

namespace backprop::datasets {

// Updates the counts and ranges in `info` for additional rows, which must have the right shape.
void AddRows(const engine::Dataset& rows, records::DatasetInfo* info);

// Checks whether a model can use the rows of a dataset: INVALID_ARGUMENT about `field` if not.
// Returns the model's class for each class of the dataset; empty if the classes are the same.
absl::StatusOr<std::vector<int32_t>> FitClasses(const records::DatasetInfo& info,
                                                const engine::Network& network,
                                                const records::ModelInfo& model,
                                                absl::string_view field);

}  // namespace backprop::datasets

#endif  // BACKPROP_SERVER_DATASETS_CONTENTS_H_
