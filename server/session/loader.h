// Brings a model back from the store.
#ifndef BACKPROP_SERVER_SESSION_LOADER_H_
#define BACKPROP_SERVER_SESSION_LOADER_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/session.h"

namespace backprop::session {

// The session of the model as it was when its last change was stored: its last state, the logged
// steps since made again, the answers that retries can still get, its latest run. A run that was
// under way goes on, or is ended where it was if it does not resume. Null if there is no such
// model; DATA_LOSS if its records are damaged. Blocks on the disk.
absl::StatusOr<std::shared_ptr<Session>> LoadSession(Environment* environment,
                                                     absl::string_view id);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_LOADER_H_
