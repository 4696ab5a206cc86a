// Whether a run of the store can continue with the rows that were read for it.
#ifndef BACKPROP_SERVER_SESSION_RESUMABLE_H_
#define BACKPROP_SERVER_SESSION_RESUMABLE_H_

#include "absl/status/status.h"
#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/session/rows_in_use.h"
#include "server/session/run.h"

namespace backprop::session {

// Checks the settings of a run, each of which is valid alone, with its rows, as Train did when the
// run started. A trainer does not check them. DATA_LOSS, naming the run and the field.
// RESOURCE_EXHAUSTED if a batch needs more memory than max_workspace_bytes, which may be lower now
// than when the run started: nothing is wrong with the run, so it must wait for a higher limit.
absl::Status CheckResumable(const engine::Network& network, const Run& run, const RunData& data,
                            const base::Limits& limits);

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_RESUMABLE_H_
