// The optimisers: they compute the next state from gradients. Formulas are in docs/numerics.md.
#ifndef BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
#define BACKPROP_SERVER_ENGINE_OPTIMIZER_H_

#include "server/engine/network.h"
#include "server/engine/parallel.h"

namespace backprop::engine {

// Returns the Euclidean norm of `gradients` (P) plus the gradient of the L1 penalty at `parameters`
// (P), summed in float64 in a fixed order. It may be infinite or NaN. `partial_sums` must have room
// for NormPartialSums(P) elements.
template <class T>
double GradientNorm(const T* gradients, const T* parameters, double l1, int64_t P,
                    double* partial_sums, Parallel* parallel);
int64_t NormPartialSums(int64_t P);

// Applies `gradients` (P) to `in` at `learning_rate` and writes the next state to `*out`. `norm` is
// their GradientNorm(). One pass adds the gradient of the L1 penalty, clips, adds the weight decay
// and updates the optimiser. `in` and `*out` are states of `network` and must be distinct. Returns
// whether every number of `*out` is finite; if not, `*out` must not be used.
template <class T>
bool ApplyGradients(const Network& network, const State& in, const T* gradients, double norm,
                    double learning_rate, Parallel* parallel, State* out);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_OPTIMIZER_H_
