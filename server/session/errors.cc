#include "server/session/errors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/store/store.h"

namespace backprop::session {

absl::Status ModelNotFound(absl::string_view model) {
  return base::ReasonError(absl::StatusCode::kNotFound, absl::StrCat(model, ": no such model"),
                           {"MODEL_NOT_FOUND", {{"model", std::string(model)}}});
}

absl::Status ModelDeleted(absl::string_view model) {
  return base::ReasonError(absl::StatusCode::kNotFound,
                           absl::StrCat(model, ": the model was deleted"),
                           {"MODEL_DELETED", {{"model", std::string(model)}}});
}

absl::Status CheckpointNotFound(absl::string_view checkpoint) {
  return base::ReasonError(absl::StatusCode::kNotFound,
                           absl::StrCat(checkpoint, ": no such checkpoint"),
                           {"CHECKPOINT_NOT_FOUND", {{"checkpoint", std::string(checkpoint)}}});
}

absl::Status RunUnderWay(absl::string_view run) {
  return base::ReasonError(absl::StatusCode::kFailedPrecondition,
                           absl::StrCat(run, " is under way; wait for it to end or stop it"),
                           {"RUN_UNDER_WAY", {{"run", std::string(run)}}});
}

bool IsRunUnderWay(const absl::Status& status) {
  if (!absl::IsFailedPrecondition(status)) return false;
  const auto reason = base::ReasonOf(status);
  return reason.has_value() && reason->reason == "RUN_UNDER_WAY";
}

const char* NameOf(engine::NotFinite what) {
  switch (what) {
    case engine::NotFinite::kLoss:
      return "the loss";
    case engine::NotFinite::kGradient:
      return "the gradient";
    case engine::NotFinite::kNextState:
      return "the next parameters";
    case engine::NotFinite::kNothing:
      break;
  }
  return "nothing";
}

absl::Status NotFiniteError(engine::NotFinite what) {
  return base::ReasonError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(NameOf(what), " would not be finite; the model is unchanged"),
      {"NOT_FINITE", {}});
}

absl::Status NotFitted(absl::string_view model) {
  return base::ReasonError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(model,
                   ": the first Train fits input_standardization; call Train first, or set mean "
                   "and std"),
      {"NOT_FITTED", {{"model", std::string(model)}}});
}

absl::Status NotStored(absl::string_view model, const absl::Status& cause) {
  const bool gone = store::HasReason(cause, store::kDirectoryGone);
  const std::string why = cause.ok()
                              ? "an earlier change was not stored; the model is being reloaded"
                              : std::string(cause.message());
  const auto code = cause.code() == absl::StatusCode::kResourceExhausted
                        ? absl::StatusCode::kResourceExhausted
                        : absl::StatusCode::kUnavailable;
  return base::ReasonError(
      code, absl::StrCat(model, ": the change was not stored: ", why),
      {gone ? store::kDirectoryGone : "NOT_STORED", {{"model", std::string(model)}}});
}

absl::Status NoRoom(absl::string_view what, const absl::Status& cause) {
  return base::ReasonError(absl::StatusCode::kResourceExhausted,
                           absl::StrCat(what, ": ", cause.message()), {store::kLowDiskSpace, {}});
}

absl::Status CheckRoom(const store::Store* store, int64_t bytes, absl::string_view what) {
  const absl::Status room = store == nullptr ? absl::OkStatus() : store->CheckRoom(bytes);
  return room.ok() ? room : NoRoom(what, room);
}

absl::Status Restoring() {
  return base::ReasonError(absl::StatusCode::kUnavailable, "a backup is being restored",
                           {"RESTORING", {}});
}

absl::Status ShuttingDown() {
  return base::ReasonError(absl::StatusCode::kUnavailable, "the server is shutting down",
                           {"SERVER_SHUTDOWN", {}});
}

}  // namespace backprop::session
