// Where a run is, so that it can resume after a restart of the server.
#ifndef BACKPROP_SERVER_RECORDS_PROGRESS_MARK_H_
#define BACKPROP_SERVER_RECORDS_PROGRESS_MARK_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/step.h"
#include "server/records/metrics.h"

namespace backprop::records {

// Progress of a trainer. Together with its state, it is sufficient for another trainer to continue.
struct ProgressMark {
  enum class Next { kStep = 1, kValidate = 2, kReport = 3 };
  Next next = Next::kStep;
  int64_t iteration = 0;
  int64_t samples = 0;
  engine::StepResult last;
  engine::LossResult epoch_loss;
  std::optional<Metrics> validation;
  absl::Duration elapsed;
  // Early stopping:
  double best_loss = 0;
  int64_t best_iteration = 0;
  int64_t bad_epochs = 0;
  std::shared_ptr<const engine::State> best_state;
  // The checkpoint of the best epoch:
  double kept_loss = 0;
  int64_t kept_iteration = 0;
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_PROGRESS_MARK_H_
