// Errors that several RPCs use. All others are built with base/status.h.
#ifndef BACKPROP_SERVER_SESSION_ERRORS_H_
#define BACKPROP_SERVER_SESSION_ERRORS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/engine/step.h"
#include "server/store/store.h"

namespace backprop::session {

absl::Status ModelNotFound(absl::string_view model);
absl::Status ModelDeleted(absl::string_view model);
absl::Status RunUnderWay(absl::string_view run);
bool IsRunUnderWay(const absl::Status& status);
absl::Status ShuttingDown();
absl::Status Restoring();
absl::Status CheckpointNotFound(absl::string_view checkpoint);
// The store rejected a change because of `cause`. If `cause` is OK, it rejected an earlier change.
absl::Status NotStored(absl::string_view model, const absl::Status& cause);
// RESOURCE_EXHAUSTED (LOW_DISK_SPACE). `cause` is the result of Store::CheckRoom for adding `what`.
absl::Status NoRoom(absl::string_view what, const absl::Status& cause);
// OK if `bytes` of bulk data may be added to the store, else NoRoom about `what`. A null `store`
// has no limit.
absl::Status CheckRoom(const store::Store* store, int64_t bytes, absl::string_view what);
// The model's standardisation is computed by its first run, and there has been none.
absl::Status NotFitted(absl::string_view model);
// A step or a gradient would not be finite.
absl::Status NotFiniteError(engine::NotFinite what);
const char* NameOf(engine::NotFinite what);  // such as "the loss"

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ERRORS_H_
