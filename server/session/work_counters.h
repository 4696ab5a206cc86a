// Counts the work that sessions have done.
#ifndef BACKPROP_SERVER_SESSION_WORK_COUNTERS_H_
#define BACKPROP_SERVER_SESSION_WORK_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "server/base/counters.h"
#include "server/records/run_events.h"

namespace backprop::session {

// Thread-safe.
struct WorkCounters {
  // Optimiser steps that changed a model, and rows that they trained on. A step with gradients of
  // the caller has no rows.
  base::Counter steps_of_calls;
  base::Counter rows_of_calls;
  base::Counter steps_of_runs;
  base::Counter rows_of_runs;
  base::Counter rows_predicted;
  // Runs that have ended, by records::StopReason.
  std::array<base::Counter, records::kStopReasons> runs_ended;

  void CountEnd(records::StopReason reason) { runs_ended[static_cast<size_t>(reason)].Add(); }
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_WORK_COUNTERS_H_
