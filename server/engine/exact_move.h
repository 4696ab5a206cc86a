// How far f moves when z does: f(z + Δ) − f(z) for every activation and loss, by identities that
// hold for every Δ and in which nothing cancels, so that the smallest Δ loses no digits.
// docs/numerics.md has them.
#ifndef BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_
#define BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_

#include <cstdint>
#include <vector>

#include "server/engine/double_double.h"
#include "server/engine/spec.h"

namespace backprop::engine {

// f(z) and f′(z) of a layer's activation; f′ takes the value for z ≤ 0 at a kink.
Quad ExactActivation(const LayerSpec& layer, Quad z);
Quad ExactSlope(const LayerSpec& layer, Quad z);

// A unit's z, a = f(z), and what its move is computed from.
struct UnitPoint {
  DoubleDouble z;
  DoubleDouble a;
  // tanh: 1 − a². Sigmoid, SiLU: σ(z), σ(−z). Softplus: σ(z). ELU: alpha·e^z. GELU: Φ(z), φ(z).
  DoubleDouble first;
  DoubleDouble second;
};
UnitPoint PointOf(const LayerSpec& layer, DoubleDouble z);

// f(z + Δ) − f(z).
DoubleDouble ActivationMove(const LayerSpec& layer, const UnitPoint& point, DoubleDouble delta);

// What a row wants, as targets (k) or as a label.
struct RowTargets {
  const double* targets;  // or null
  int32_t label;          // where targets is null
};

// One row's loss, unweighted by its sample weight, and what its move is computed from.
struct LossPoint {
  Quad loss = 0;
  std::vector<double> slope;      // (k): its derivatives by z
  std::vector<double> magnitude;  // (k): the same with every term taken positive
  // (k) each. Softmax: p the probabilities, q the weighted targets. Binary: p = σ(z), other =
  // σ(−z), q and yes the weights of log(1 + e^z) and log(1 + e^−z). Else: p = z − y.
  std::vector<DoubleDouble> p;
  std::vector<DoubleDouble> other;
  std::vector<DoubleDouble> q;
  std::vector<DoubleDouble> yes;
  DoubleDouble Q;     // softmax: Σ q
  int32_t only = -1;  // softmax: the one class whose q is not 0, or −1
};
LossPoint LossPointOf(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                      int64_t k);

// loss(z + Δ) − loss(z), Δ (k).
DoubleDouble LossMove(const LossSpec& loss, const LossPoint& point, const DoubleDouble* delta);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_
