// The rows that a request works on: rows in the request, or the rows of a dataset.
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

// The fields of a request that select rows. At most one of `batch` and `dataset` may be given.
struct RowsAsked {
  const v1::Batch* batch = nullptr;  // null: not given
  std::string dataset;               // `datasets/{id}`; empty: not given
  std::string field;                 // field path of `batch`
  std::string dataset_field;         // field path of `dataset`
  bool required = true;
};

// Gets the rows and checks them against the model. `done` is called exactly once: for a batch
// before GetRows returns; for a dataset possibly later, by another thread, after it was read.
// `asked.batch` needs to live only until GetRows returns. If no rows are given and they are not
// required, the result has no rows. Errors: INVALID_ARGUMENT about one of the two fields; those of
// DecodeBatch and Datasets::Use.
void GetRows(Context* context, const std::shared_ptr<session::Session>& model,
             const RowsAsked& asked,
             absl::AnyInvocable<void(absl::StatusOr<session::RowsInUse>)> done);

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_ROWS_H_
