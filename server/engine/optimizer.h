// The optimisers: how gradients become the next state. Formulas are in docs/numerics.md.
#ifndef BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
#define BACKPROP_SERVER_ENGINE_OPTIMIZER_H_

#include "server/engine/network.h"

namespace backprop::engine {

// Euclidean norm, summed in float64 in order.
template <class T>
double Norm(const T* values, int64_t count);

// What comes before the optimiser proper, in this order and in place: the gradient of the L1
// penalty is added, then the gradients (P, of the network's precision T) are clipped. Returns their
// Euclidean norm before clipping, which may be infinite or NaN.
template <class T>
double PenalizeAndClip(const Network& network, const State& in, T* gradients);

// Writes the state that follows `in` when `gradients` (P), as PenalizeAndClip left them, are
// applied at `learning_rate`. `in` and `*out` are states of `network` and must not be the same.
// Returns whether every number of `*out` is finite; if not, `*out` is not to be used.
template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients,
                    double learning_rate, State* out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
