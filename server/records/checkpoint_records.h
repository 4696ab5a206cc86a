// Records of checkpoints.
#ifndef BACKPROP_SERVER_RECORDS_CHECKPOINT_RECORDS_H_
#define BACKPROP_SERVER_RECORDS_CHECKPOINT_RECORDS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/records/checkpoint.h"

namespace backprop::records {

std::string EncodeCheckpoint(const Checkpoint& checkpoint);
absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view value, absl::string_view model);

// Hash of the record of a state (16 bytes), which identifies the state in the store.
std::string HashOfState(const std::string& record);

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_CHECKPOINT_RECORDS_H_
