// Forward and backward through a network.
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

// A network with its numbers, of the network's precision T. Refers to what others own.
template <class T>
struct Model {
  const Network& network;
  const T* parameters;                     // (P)
  const Standardization* standardization;  // null: inputs are taken as they are
};

template <class T>
Model<T> ModelOf(const Network& network, const State& state) {
  return {network, state.values.as<T>().data(), state.standardization.get()};
}

// Computes z and a of every layer for the rows of `batch`, without dropout. `workspace` must be
// prepared for as many.
template <class T>
void Forward(const Model<T>& model, const BatchView& batch, Workspace* workspace);

// The outputs (n, k), row-major, of the pass over n rows that `workspace` holds. Valid until the
// next pass.
template <class T>
const T* Outputs(const Network& network, int64_t rows, Workspace* workspace);

// Forward without dropout, then the loss. No gradients. `parallel` is told of pauses alone.
template <class T>
LossResult ForwardLoss(const Model<T>& model, const BatchView& batch, Workspace* workspace,
                       Parallel* parallel = Serial::Get());

// Forward, loss and backward: leaves dL/dp in workspace->gradients<T>(), L = the result's mean().
// With `dropout_step`, layers drop outputs as in the step that the model makes after so many; else
// none does. Reads the parameters only. `workspace` must be prepared for kForwardBackward and this
// many rows. Many rows are cut into shards, which `parallel` may compute at the same time; the bits
// do not depend on it.
template <class T>
LossResult ForwardBackward(const Model<T>& model, const BatchView& batch,
                           std::optional<int64_t> dropout_step, Workspace* workspace,
                           Parallel* parallel = Serial::Get());

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PASS_H_
