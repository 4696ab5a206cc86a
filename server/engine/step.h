// What the layers above ask of the engine, whatever the precision.
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

// What was not finite, if anything.
enum class NotFinite { kNothing, kLoss, kGradient, kNextState };

// What a step saw on its batch, before the update.
struct StepResult {
  LossResult loss;           // sums over the batch
  int64_t rows = 0;          // n
  double gradient_norm = 0;  // Euclidean, over all parameters, with L1, before clipping
  double learning_rate = 0;
  NotFinite not_finite = NotFinite::kNothing;
};

// One optimiser step from `in` on `batch`: writes the next state to `*out`, which must be another
// state of `network`. When something is not finite, says what, and `*out` is not to be used.
// Allocates nothing once `workspace` has grown to the size of the work. `parallel` may compute
// parts of large work at the same time; the bits do not depend on it.
StepResult TrainStep(const Network& network, const State& in, const BatchView& batch,
                     Workspace* workspace, State* out, Parallel* parallel = Serial::Get());

// The first half of a step: leaves the gradient of the batch's mean loss in workspace->gradients,
// without L1, clipping and decay. gradient_norm is its norm. Layers drop outputs as they would in
// the step.
StepResult ComputeGradients(const Network& network, const State& state, const BatchView& batch,
                            Workspace* workspace, Parallel* parallel = Serial::Get());

// The second half: what TrainStep does after its backward pass, with `gradients` (P) of the
// caller's in the network's precision. There is no loss; rows are 0.
StepResult ApplyStep(const Network& network, const State& in, const Buffer& gradients,
                     Workspace* workspace, State* out, Parallel* parallel = Serial::Get());

// Sums over the rows of a batch, of a model at rest. `parallel` is told of pauses alone.
LossResult Evaluate(const Network& network, const State& state, const BatchView& batch,
                    Workspace* workspace, Parallel* parallel = Serial::Get());

// The outputs (n, k), row-major, of the pass over n rows that `workspace` holds, in the network's
// precision.
const std::byte* OutputBytes(const Network& network, int64_t rows, Workspace* workspace);

// Writes what is not null: logits (n, k), probabilities (n, k), classes (n).
struct PredictTargets {
  std::byte* logits = nullptr;
  std::byte* probabilities = nullptr;
  int32_t* classes = nullptr;
};
void Predict(const Network& network, const State& state, const BatchView& batch,
             Workspace* workspace, const PredictTargets& out);

// Floating-point operations of a forward pass over n rows, about; a step takes three times that.
int64_t ForwardCost(const Network& network, int64_t rows);

// The instruction set this library was built for, such as "x86-64-v3".
std::string InstructionSet();

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_STEP_H_
