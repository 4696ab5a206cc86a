// Loads a model from the store.
#ifndef BACKPROP_SERVER_SESSION_LOADER_H_
#define BACKPROP_SERVER_SESSION_LOADER_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/session.h"

namespace backprop::session {

// Loads the session of a model as of its last stored change: the last state, the logged steps after
// it, which are repeated, the responses that retries can still get, the descriptions of the
// checkpoints, and the latest run. A run that was active resumes; one that does not resume has
// ended with the last stored state. Null if there is no such model; DATA_LOSS if its records are
// damaged. Blocks on the disk.
absl::StatusOr<std::shared_ptr<Session>> LoadSession(Environment* environment,
                                                     absl::string_view id);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_LOADER_H_
