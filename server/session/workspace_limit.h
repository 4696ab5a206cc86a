// The limit on the memory of one piece of work on a model (Limits::max_workspace_bytes).
#ifndef BACKPROP_SERVER_SESSION_WORKSPACE_LIMIT_H_
#define BACKPROP_SERVER_SESSION_WORKSPACE_LIMIT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/engine/workspace.h"

namespace backprop::session {

// RESOURCE_EXHAUSTED about `field` if a pass over `rows` rows needs more memory than the limit.
absl::Status CheckWorkspace(const engine::Network& network, int64_t rows, engine::PassKind kind,
                            absl::string_view field, const base::Limits& limits);

// The same for work over `rows` rows that needs `bytes` bytes. `what` names it in the error.
absl::Status CheckMemory(int64_t bytes, absl::string_view what, int64_t rows,
                         absl::string_view field, const base::Limits& limits);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_WORKSPACE_LIMIT_H_
