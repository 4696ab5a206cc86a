// What the mutations of a model answer, and a retry of them gets again.
#ifndef BACKPROP_SERVER_SESSION_ANSWER_H_
#define BACKPROP_SERVER_SESSION_ANSWER_H_

#include <cstdint>
#include <memory>
#include <variant>

#include "absl/time/time.h"
#include "server/engine/step.h"
#include "server/session/checkpoint.h"
#include "server/session/request_window.h"
#include "server/session/run.h"

namespace backprop::session {

struct StepOutcome {
  int64_t step = 0;  // after it
  engine::StepResult result;
};

// A run, by its number; null when it ended before the server was last started and a later one has
// ended since.
struct RunAnswer {
  int64_t number = 0;
  std::shared_ptr<Run> run;
};

using Answer = std::variant<StepOutcome, int64_t, RunAnswer, CheckpointPtr>;

// An answer with the request that got it. Without an id: nobody will ask again.
struct KeyedAnswer {
  RequestKey key;
  absl::Time time;
  Answer answer;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_ANSWER_H_
