// The plain reference: loops in float64 that read like the derivation. Everything the engine
// computes is held to it. Nothing here is shared with the engine but its plain-data specs.
//
//   z_l = x_l·W_l + b_l        (n, inputs)·(inputs, units) → (n, units)
//   a_l = f_l(z_l)             x_{l+1} = a_l
//   dz_l = da_l ⊙ f′_l(z_l)    dW_l = x_lᵀ·dz_l    db_l = Σ_rows dz_l    da_{l−1} = dz_l·W_lᵀ
#ifndef BACKPROP_TESTS_ENGINE_REFERENCE_H_
#define BACKPROP_TESTS_ENGINE_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "server/engine/spec.h"

namespace backprop::reference {

using Matrix = std::vector<std::vector<double>>;  // [row][column]

struct Layer {
  Matrix W;               // (inputs, units)
  std::vector<double> b;  // (units)
};

struct Batch {
  Matrix x;                  // (n, d)
  std::vector<int> classes;  // (n), or empty
  Matrix y;                  // (n, k), or empty
};

struct Result {
  double loss = 0;
  int correct = 0;
  Matrix logits;             // (n, k)
  std::vector<Layer> grads;  // dW and db, shaped as the layers
};

Result ForwardBackward(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                       const Batch& batch);

// State of an optimiser: one value per parameter and slot, shaped as the layers.
struct Optimizer {
  std::vector<Layer> slot1;  // momentum, or Adam's m
  std::vector<Layer> slot2;  // Adam's v
  int t = 0;
};

// One step of the optimiser, in place.
void Apply(const engine::OptimizerSpec& spec, const std::vector<Layer>& grads,
           std::vector<Layer>* layers, Optimizer* optimizer);

// softmax of a row, or its sigmoids.
std::vector<double> Probabilities(engine::Loss loss, const std::vector<double>& z);

}  // namespace backprop::reference

#endif  // BACKPROP_TESTS_ENGINE_REFERENCE_H_
