// The optimisers: how gradients become the next state. Formulas are in docs/numerics.md.
#ifndef BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
#define BACKPROP_SERVER_ENGINE_OPTIMIZER_H_

#include "server/engine/network.h"
#include "server/engine/parallel.h"

namespace backprop::engine {

// Euclidean norm of `gradients` (P) with those of the L1 penalty at `parameters` (P), summed in
// float64 in a fixed order. It may be infinite or NaN. `partial_sums` has room for
// NormPartialSums(P).
template <class T>
double GradientNorm(const T* gradients, const T* parameters, double l1, int64_t P,
                    double* partial_sums, Parallel* parallel);
int64_t NormPartialSums(int64_t P);

// Writes the state that follows `in` when `gradients` (P), whose GradientNorm is `norm`, are
// applied at `learning_rate`: in one pass the gradient of the L1 penalty is added, the sum is
// clipped, decayed and given to the optimiser. `in` and `*out` are states of `network` and must not
// be the same. Returns whether every number of `*out` is finite; if not, it is not to be used.
template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients, double norm,
                    double learning_rate, Parallel* parallel, State* out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
