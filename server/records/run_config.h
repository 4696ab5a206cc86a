// The settings of a run.
#ifndef BACKPROP_SERVER_RECORDS_RUN_CONFIG_H_
#define BACKPROP_SERVER_RECORDS_RUN_CONFIG_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "server/records/unfinished_epoch.h"

namespace backprop::records {

// Which checkpoints a run makes automatically.
struct CheckpointPolicy {
  int64_t every_iterations = 0;  // 0: none
  int64_t keep_last = 3;         // in [1, kMostKeptLast]
  bool keep_best = false;
};

// Ends a run that no longer improves.
struct EarlyStopping {
  int64_t patience = 10;  // epochs, ≥ 1
  double min_delta = 0;   // ≥ 0
  bool restore_best = true;
};

// Settings of a run. They must be valid: a run does not check them.
struct RunConfig {
  int64_t iterations = 1;  // ≥ 1
  int64_t batch_size = 1;  // in [1, rows trained on]
  bool shuffle = false;
  int64_t report_every = 1;  // ≥ 1
  // Longest time between two reports; these are in addition to those of report_every.
  absl::Duration report_interval = absl::InfiniteDuration();
  double validation_split = 0;  // share of the rows held out, in [0, 1)
  bool redraw_split = false;    // drawn from the seed and the step count, instead of the seed alone
  bool stratify = false;        // stratify the split, if rows have classes
  std::optional<EarlyStopping> early_stopping;
  CheckpointPolicy checkpoints;
  // `continue_epoch`: starts where the last run left its epoch. `whole_epochs`: that epoch counts
  // as the first one of `iterations`, which is then reduced by the batches already made.
  bool continue_epoch = false;
  bool whole_epochs = false;
  UnfinishedEpochPtr resumed = {};  // the epoch to continue, set by the session; null: a new epoch

  int64_t resumed_batches() const { return resumed != nullptr ? resumed->batches : 0; }
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_RUN_CONFIG_H_
