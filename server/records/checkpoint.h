// Metadata of checkpoints.
#ifndef BACKPROP_SERVER_RECORDS_CHECKPOINT_H_
#define BACKPROP_SERVER_RECORDS_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "server/records/metrics.h"

namespace backprop::records {

struct Checkpoint {
  std::string id;
  int64_t step = 0;
  absl::Time create_time;
  std::string state_hash;  // 16 bytes; identifies the stored state
  int64_t size_bytes = 0;
  int64_t run = 0;  // number of the run that made it automatically; 0: a caller requested it
  int64_t iteration = 0;
  bool best = false;
  std::optional<Metrics> metrics;
  std::optional<Metrics> validation;

  // Whether it is deleted automatically when there are enough newer ones.
  bool periodic() const { return run != 0 && !best; }
};
using CheckpointPtr = std::shared_ptr<const Checkpoint>;

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_CHECKPOINT_H_
