// The change f(z + Δ) − f(z) of every activation and loss f. The identities used hold for every Δ
// and contain no cancellation, so that even the smallest Δ loses no digits. They are derived in
// docs/numerics.md. All functions are thread-safe.
#ifndef BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_
#define BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_

#include <cstdint>
#include <vector>

#include "server/engine/double_double.h"
#include "server/engine/spec.h"

namespace backprop::engine {

// f(z) and f′(z) of the layer's activation. At a kink f′ is the derivative for z ≤ 0.
Quad ExactActivation(const LayerSpec& layer, Quad z);
Quad ExactSlope(const LayerSpec& layer, Quad z);

// A unit's z and a = f(z), and the values from which ActivationMove() computes a change.
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

// The targets of a row, as numbers (k) or as a class.
struct RowTargets {
  const double* targets;  // (k); null: `label` is used
  int32_t label;          // read if `targets` is null
};
// The target of output j as a number: 1 or 0 if the row has a class.
double TargetOf(const LossSpec& loss, const RowTargets& wanted, size_t j);
// The weight of class j, or of the positive class of output j: 1 without weights.
double WeightAt(const std::vector<double>& weights, size_t j);

// The loss of one row, without its sample weight, and the values from which LossMove() computes a
// change.
struct LossPoint {
  Quad loss = 0;
  std::vector<double> slope;      // (k): ∂loss/∂z
  std::vector<double> magnitude;  // (k): the same sums with the absolute value of each term
  // (k) each. Softmax: p the probabilities, q the weighted targets. Binary: p = σ(z), other =
  // σ(−z), q and yes the weights of log(1 + e^z) and log(1 + e^−z). Other losses: p = z − y.
  std::vector<DoubleDouble> p;
  std::vector<DoubleDouble> other;
  std::vector<DoubleDouble> q;
  std::vector<DoubleDouble> yes;
  DoubleDouble Q;     // softmax: Σ q
  int32_t only = -1;  // softmax: the only class whose q is not 0; −1: several
};
LossPoint LossPointOf(const LossSpec& loss, const RowTargets& wanted, const DoubleDouble* z,
                      int64_t k);

// loss(z + Δ) − loss(z), Δ (k).
DoubleDouble LossMove(const LossSpec& loss, const LossPoint& point, const DoubleDouble* delta);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_EXACT_MOVE_H_
