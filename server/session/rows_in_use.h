// Rows that a run or a measurement uses.
#ifndef BACKPROP_SERVER_SESSION_ROWS_IN_USE_H_
#define BACKPROP_SERVER_SESSION_ROWS_IN_USE_H_

#include <memory>

#include "server/engine/data.h"
#include "server/records/keys.h"

namespace backprop::session {

// While the rows are referenced, the dataset that they are from cannot be deleted.
struct RowsInUse {
  std::shared_ptr<const engine::Dataset> rows;
  records::Uid dataset = 0;  // 0: the rows are of a request
};

// The rows of a run. Without `validation`, a share of `training` may be held out.
struct RunData {
  std::shared_ptr<const engine::Dataset> training;
  std::shared_ptr<const engine::Dataset> validation;  // or null
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ROWS_IN_USE_H_
