#include "server/records/run_events.h"

namespace backprop::records {

const char* NameOf(StopReason reason) {
  switch (reason) {
    case StopReason::kCompleted:
      return "completed";
    case StopReason::kStopped:
      return "stopped";
    case StopReason::kCancelled:
      return "cancelled";
    case StopReason::kDiverged:
      return "diverged";
    case StopReason::kModelDeleted:
      return "model_deleted";
    case StopReason::kServerShutdown:
      return "server_shutdown";
    case StopReason::kEarlyStopped:
      return "early_stopped";
    case StopReason::kDataLost:
      return "data_lost";
  }
  return "unknown";
}

}  // namespace backprop::records
