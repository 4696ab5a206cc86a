// The optimisers: how gradients become the next state.
#ifndef BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
#define BACKPROP_SERVER_ENGINE_OPTIMIZER_H_

#include "server/engine/network.h"

namespace backprop::engine {

// Writes the state that follows `in` when `gradients` (P, in the network's precision T) are
// applied. `in` and `*out` are states of `network` and must not be the same. Returns whether every
// number of `*out` is finite; if not, `*out` is not to be used.
template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients, State* out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
