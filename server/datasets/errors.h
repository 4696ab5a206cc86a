// Errors about datasets that several files use.
#ifndef BACKPROP_SERVER_DATASETS_ERRORS_H_
#define BACKPROP_SERVER_DATASETS_ERRORS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace backprop::datasets {

// NOT_FOUND (DATASET_NOT_FOUND).
absl::Status DatasetNotFound(absl::string_view dataset);

}  // namespace backprop::datasets

#endif  // BACKPROP_SERVER_DATASETS_ERRORS_H_
