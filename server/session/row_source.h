// Where a run that resumes gets the stored rows that it uses.
#ifndef BACKPROP_SERVER_SESSION_ROW_SOURCE_H_
#define BACKPROP_SERVER_SESSION_ROW_SOURCE_H_

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/engine/network.h"
#include "server/records/keys.h"
#include "server/records/model_info.h"
#include "server/session/rows_in_use.h"

namespace backprop::session {

// Stored rows. A run that starts, or a measurement, comes with its rows (RowsInUse), so a session
// asks for rows only when a run resumes. Thread-safe. Must outlive the sessions and all RowsInUse
// that it returned.
class RowSource {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<RowsInUse>)>;

  virtual ~RowSource() = default;

  // Gets all rows of `dataset`, the uid in the record of a run of `model`, in the form that the
  // model takes: in the precision of `network`, with the model's numbers of classes. The model is a
  // user of the dataset until the last reference to the rows is released. Succeeds also while a
  // deletion of the dataset searches for users, because a run that resumes has been one all the
  // time.
  //
  // `model` and `network` need to live only until UseAgain returns. `done` is called exactly once,
  // before UseAgain returns or later by another thread; the caller must not hold a lock that it
  // acquires. Errors:
  // - UNAVAILABLE, RESOURCE_EXHAUSTED: the rows may be available later, so the run is parked.
  // - DATA_LOSS if rows are damaged or missing, NOT_FOUND if the dataset is, and all others: the
  //   run cannot continue, and ends.
  virtual void UseAgain(records::Uid dataset, const records::ModelInfo& model,
                        const engine::Network& network, Done done) = 0;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ROW_SOURCE_H_
