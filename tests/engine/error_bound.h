// Bounds on the rounding error of a pass in precision u: the running error analysis derived in
// docs/numerics.md, computed from the reference.
#ifndef BACKPROP_TESTS_ENGINE_ERROR_BOUND_H_
#define BACKPROP_TESTS_ENGINE_ERROR_BOUND_H_

#include <vector>

#include "server/engine/spec.h"
#include "tests/engine/reference.h"

namespace backprop::reference {

struct ErrorBound {
  double loss = 0;
  Matrix logits;             // (n, k)
  std::vector<Layer> grads;  // shaped as the layers
};

// `result` is the reference's for the same arguments; u is 2^-24 for float32.
ErrorBound BoundOf(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                   const Batch& batch, const Result& result, bool standardized, double u);

}  // namespace backprop::reference

#endif  // BACKPROP_TESTS_ENGINE_ERROR_BOUND_H_
