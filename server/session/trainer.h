// The work of a run, a slice at a time.
#ifndef BACKPROP_SERVER_SESSION_TRAINER_H_
#define BACKPROP_SERVER_SESSION_TRAINER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "server/engine/batch_schedule.h"
#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/step.h"
#include "server/engine/workspace.h"
#include "server/session/run.h"

namespace backprop::session {

// Makes the steps of a run and writes its log. What a slice computes depends on where it starts,
// never on how long it is. Used by one thread at a time.
class Trainer {
 public:
  // `state` is the model's current one.
  Trainer(std::shared_ptr<const engine::Network> network, std::shared_ptr<Run> run,
          std::shared_ptr<const engine::Dataset> data, std::shared_ptr<const engine::State> state);

  // Trains for about `length`, at least one step. Calls `at_step_boundary` before each step; a
  // State that it takes from state() stays as it is if it says so by returning true. Returns the
  // summary when the run has ended.
  std::optional<RunSummary> Slice(absl::Duration length,
                                  absl::FunctionRef<bool()> at_step_boundary);

  // The state after the last step. Between slices, MarkShared() keeps it as it is.
  const std::shared_ptr<const engine::State>& state() const { return state_; }
  void MarkShared() { shared_ = true; }

 private:
  using SteadyClock = std::chrono::steady_clock;

  bool Step();  // false when the run has diverged
  void Report(const engine::StepResult& result);
  bool Measure(SteadyClock::time_point end);  // true when all rows are measured
  RunSummary Summary(StopReason reason);
  absl::Duration Elapsed() const { return absl::FromChrono(SteadyClock::now() - begin_); }

  const std::shared_ptr<const engine::Network> network_;
  const std::shared_ptr<Run> run_;
  const std::shared_ptr<const engine::Dataset> data_;
  engine::BatchSchedule schedule_;
  engine::Workspace workspace_;
  std::shared_ptr<const engine::State> state_;
  bool shared_ = true;                    // somebody else reads state_
  std::shared_ptr<engine::State> spare_;  // nobody reads; the next step writes here
  const int64_t start_step_;
  const SteadyClock::time_point begin_ = SteadyClock::now();
  int64_t iteration_ = 0;  // steps made
  int64_t samples_ = 0;    // rows trained
  std::optional<StopReason> ended_;
  std::string message_;
  // The measurement of all rows at the end.
  int64_t measured_rows_ = 0;
  double loss_sum_ = 0;
  int64_t correct_ = 0;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_TRAINER_H_
