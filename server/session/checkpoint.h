// What is known of a checkpoint, beside its numbers.
#ifndef BACKPROP_SERVER_SESSION_CHECKPOINT_H_
#define BACKPROP_SERVER_SESSION_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "server/engine/network.h"
#include "server/session/metrics.h"

namespace backprop::session {

struct Checkpoint {
  std::string id;
  int64_t step = 0;
  absl::Time create_time;
  std::string state_hash;  // 16 bytes: under which its numbers lie
  int64_t size_bytes = 0;
  int64_t run = 0;  // number of the run that made it by itself; 0: a caller asked for it
  int64_t iteration = 0;
  bool best = false;
  std::optional<Metrics> metrics;
  std::optional<Metrics> validation;

  // Whether it goes when newer ones come.
  bool periodic() const { return run != 0 && !best; }
};
using CheckpointPtr = std::shared_ptr<const Checkpoint>;

// What a run makes by itself.
struct CheckpointPolicy {
  int64_t every_iterations = 0;  // 0: none
  int64_t keep_last = 3;         // in [1, kMostKeptLast]
  bool keep_best = false;
};

// A state that a run's policy wants to be kept.
struct DueCheckpoint {
  std::shared_ptr<const engine::State> state;
  int64_t iteration = 0;
  bool best = false;
  Metrics metrics;
  std::optional<Metrics> validation;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_CHECKPOINT_H_
