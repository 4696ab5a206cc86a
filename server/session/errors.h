// Errors that several RPCs share. base/status.h builds all others.
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
absl::Status DatasetNotFound(absl::string_view dataset);
absl::Status CheckpointNotFound(absl::string_view checkpoint);
// A change was refused by the store, for `cause`; OK: an earlier one was.
absl::Status NotStored(absl::string_view model, const absl::Status& cause);
// RESOURCE_EXHAUSTED (LOW_DISK_SPACE): what Store::CheckRoom said about adding `what`.
absl::Status NoRoom(absl::string_view what, const absl::Status& cause);
// NoRoom about `what` unless bulk data of so many bytes may be added. Null: there is no disk.
absl::Status CheckRoom(const store::Store* store, int64_t bytes, absl::string_view what);
// The model standardises its inputs by what its first run fits, and has had none.
absl::Status NotFitted(absl::string_view model);
// A step, or a gradient, that would not be finite.
absl::Status NotFiniteError(engine::NotFinite what);
const char* NameOf(engine::NotFinite what);  // "the loss"

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ERRORS_H_
