// How far rounding can take a pass in precision u from the exact one: the running error analysis
// that docs/numerics.md derives, computed beside the reference.
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
