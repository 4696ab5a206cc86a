#include "server/datasets/errors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::datasets {

absl::Status DatasetNotFound(absl::string_view dataset) {
  return base::ReasonError(absl::StatusCode::kNotFound, absl::StrCat(dataset, ": no such dataset"),
                           {"DATASET_NOT_FOUND", {{"dataset", std::string(dataset)}}});
}

}  // namespace backprop::datasets
