#include "server/session/workspace_limit.h"

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace backprop::session {

absl::Status CheckWorkspace(const engine::Network& network, int64_t rows, engine::PassKind kind,
                            absl::string_view field, const base::Limits& limits) {
  return CheckMemory(engine::Workspace::BytesNeeded(network, rows, kind), "a pass", rows, field,
                     limits);
}

absl::Status CheckMemory(int64_t bytes, absl::string_view what, int64_t rows,
                         absl::string_view field, const base::Limits& limits) {
  if (bytes <= limits.max_workspace_bytes) return absl::OkStatus();
  return base::LimitError(
      field, absl::StrCat(what, " over ", rows, " rows of this model needs ", bytes,
                          " bytes, more than the limit of ", limits.max_workspace_bytes,
                          " (max_workspace_bytes)"));
}

}  // namespace backprop::session
