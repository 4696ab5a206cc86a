// The rows of a request: those that it brings, or a dataset's.
#ifndef BACKPROP_SERVER_RPC_ROWS_H_
#define BACKPROP_SERVER_RPC_ROWS_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "backprop/v1/tensor.pb.h"
#include "server/rpc/context.h"
#include "server/session/rows_in_use.h"

namespace backprop::rpc {

// What a request says of some rows. `batch` is null if it brings none; `field` is its name.
struct RowsAsked {
  const v1::Batch* batch = nullptr;
  std::string dataset;  // `datasets/{id}`, or empty
  std::string field;
  std::string dataset_field;
  bool required = true;
};

// Gets them, checked against the model. A batch is decoded here and now; a dataset may have to be
// read, after which `done` is called from another thread, and `asked.batch` is not needed for that.
// Without rows that are not required: no rows.
void GetRows(Context* context, const std::shared_ptr<session::Session>& model,
             const RowsAsked& asked,
             absl::AnyInvocable<void(absl::StatusOr<session::RowsInUse>)> done);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_ROWS_H_
