// The engine's interface to the layers above, independent of the precision. All functions are
// thread-safe for distinct workspaces and output states.
#ifndef BACKPROP_SERVER_ENGINE_STEP_H_
#define BACKPROP_SERVER_ENGINE_STEP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/parallel.h"
#include "server/engine/workspace.h"

namespace backprop::engine {

// The first result that was not finite.
enum class NotFinite { kNothing, kLoss, kGradient, kNextState };

// The result of a step on its batch; loss and gradient are those before the update.
struct StepResult {
  LossResult loss;           // sums over the batch
  int64_t rows = 0;          // n
  double gradient_norm = 0;  // Euclidean, over all parameters, with L1, before clipping
  double learning_rate = 0;
  NotFinite not_finite = NotFinite::kNothing;
};

// Makes one optimiser step from `in` on `batch` and writes the next state to `*out`, which must be
// another state of `network`. If a result is not finite, StepResult::not_finite names it and `*out`
// must not be used. Allocates nothing once `workspace` has grown to the size of the work.
// `parallel` may compute parts of large work concurrently; the bits of the result do not depend on
// that.
StepResult TrainStep(const Network& network, const State& in, const BatchView& batch,
                     Workspace* workspace, State* out, Parallel* parallel = Serial::Get());

// The first half of a step: leaves the gradient of the batch's mean loss in workspace->gradients,
// without L1, clipping and decay; gradient_norm is the norm of that gradient. Dropout is the same
// as in the step.
StepResult ComputeGradients(const Network& network, const State& state, const BatchView& batch,
                            Workspace* workspace, Parallel* parallel = Serial::Get());

// The second half of a step: applies the caller's `gradients` (P), in the network's precision, as
// TrainStep() does after its backward pass. The result has no loss and its rows are 0.
StepResult ApplyStep(const Network& network, const State& in, const Buffer& gradients,
                     Workspace* workspace, State* out, Parallel* parallel = Serial::Get());

// Returns the loss sums over the rows of a batch, without dropout. Calls only Pause() of
// `parallel`.
LossResult Evaluate(const Network& network, const State& state, const BatchView& batch,
                    Workspace* workspace, Parallel* parallel = Serial::Get());

// Returns the outputs (n, k), row-major, in the network's precision, of the last pass over n rows
// in `workspace`. Valid until the next pass.
const std::byte* OutputBytes(const Network& network, int64_t rows, Workspace* workspace);

// Destinations of a prediction; null: not wanted. logits (n, k), probabilities (n, k), classes (n).
struct PredictTargets {
  std::byte* logits = nullptr;
  std::byte* probabilities = nullptr;
  int32_t* classes = nullptr;
};
void Predict(const Network& network, const State& state, const BatchView& batch,
             Workspace* workspace, const PredictTargets& out);

// Returns the approximate number of floating-point operations of a forward pass over n rows. A step
// takes three times as many.
int64_t ForwardCost(const Network& network, int64_t rows);

// The instruction set that this library was built for, such as "x86-64-v3".
std::string InstructionSet();

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_STEP_H_
