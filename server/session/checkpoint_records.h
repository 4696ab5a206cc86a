// Records of checkpoints.
#ifndef BACKPROP_SERVER_SESSION_CHECKPOINT_RECORDS_H_
#define BACKPROP_SERVER_SESSION_CHECKPOINT_RECORDS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/checkpoint.h"

namespace backprop::session {

std::string EncodeCheckpoint(const Checkpoint& checkpoint);
absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view value, absl::string_view model);

// Hash of the record of a state (16 bytes), which identifies the state in the store.
std::string HashOfState(const std::string& record);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_CHECKPOINT_RECORDS_H_
