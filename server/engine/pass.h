// The forward and the backward pass.
#ifndef BACKPROP_SERVER_ENGINE_PASS_H_
#define BACKPROP_SERVER_ENGINE_PASS_H_

#include <cstdint>
#include <optional>

#include "server/engine/data.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/parallel.h"
#include "server/engine/workspace.h"

namespace backprop::engine {

// A network and its parameters, of the network's precision T. Does not own them.
template <class T>
struct Model {
  const Network& network;
  const T* parameters;                     // (P)
  const Standardization* standardization;  // null: inputs are used unchanged
};

template <class T>
Model<T> ModelOf(const Network& network, const State& state) {
  return {network, state.values.as<T>().data(), state.standardization.get()};
}

// Computes z and a of every layer for the rows of `batch`, without dropout. `workspace` must be
// prepared for at least that many rows.
template <class T>
void Forward(const Model<T>& model, const BatchView& batch, Workspace* workspace);

// Returns the outputs (n, k), row-major, of the last pass over n rows in `workspace`. Valid until
// the next pass.
template <class T>
const T* Outputs(const Network& network, int64_t rows, Workspace* workspace);

// Forward pass without dropout, then the loss; no gradients. Calls only Pause() of `parallel`.
template <class T>
LossResult ForwardLoss(const Model<T>& model, const BatchView& batch, Workspace* workspace,
                       Parallel* parallel = Serial::Get());

// Forward pass, loss and backward pass. Leaves dL/dp in workspace->gradients<T>(), where L is
// mean() of the result. If `dropout_step` is set, dropout uses the masks of the step that the model
// makes after that many steps; otherwise there is no dropout. Only reads the parameters.
// `workspace` must be prepared for kForwardBackward and this many rows. Large batches are cut into
// shards, which `parallel` may compute concurrently; the bits of the result do not depend on that.
template <class T>
LossResult ForwardBackward(const Model<T>& model, const BatchView& batch,
                           std::optional<int64_t> dropout_step, Workspace* workspace,
                           Parallel* parallel = Serial::Get());

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PASS_H_
