// Forward and backward through a network.
#ifndef BACKPROP_SERVER_ENGINE_PASS_H_
#define BACKPROP_SERVER_ENGINE_PASS_H_

#include <cstdint>

#include "server/engine/data.h"
#include "server/engine/loss.h"
#include "server/engine/network.h"
#include "server/engine/workspace.h"

namespace backprop::engine {

// Computes z and a of every layer for the rows of `batch`. `workspace` must be prepared for them,
// and T be the network's precision.
template <class T>
void Forward(const Network& network, const T* parameters, const BatchView& batch,
             Workspace* workspace);

// The outputs (n, k) that the last Forward left in `workspace`.
template <class T>
const T* Outputs(const Network& network, Workspace* workspace) {
  return workspace->a<T>(network.layers().size() - 1);
}

// Forward, then the loss. No gradients.
template <class T>
LossResult ForwardLoss(const Network& network, const T* parameters, const BatchView& batch,
                       Workspace* workspace);

// Forward, loss and backward: leaves dL/dp in workspace->gradients<T>(), L = sum / n. Reads the
// parameters only. `workspace` must be prepared for kForwardBackward.
template <class T>
LossResult ForwardBackward(const Network& network, const T* parameters, const BatchView& batch,
                           Workspace* workspace);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PASS_H_
