// Bounds on the rounding error of a correct gradient: the running error analysis derived in
// docs/numerics.md, computed row by row from an exact pass.
#ifndef BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_
#define BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "server/engine/exact_pass.h"
#include "server/engine/network.h"

namespace backprop::engine {

// The bound for a pass in one precision. Refers to the network, the parameters (P) and the pass,
// which must outlive it. Thread-compatible.
class RoundingBound {
 public:
  // `standardization` must be that of the pass; null: none.
  RoundingBound(const Network& network, const double* parameters,
                const Standardization* standardization, const ExactPass& pass, DataType precision);

  // Adds one row. Call it once for each row, after the pass has computed the row.
  void AddRow(int64_t row);

  // A bound on |computed − exact| for each entry of the gradient, (P), valid for every order of
  // summation. Requires that all rows were added.
  const std::vector<double>& gradient() const { return gradient_; }
  // Whether a number of the pass may exceed the range of the precision. There is no bound then.
  bool overflows() const { return !(largest_ <= limit_); }

 private:
  struct LayerErrors {
    std::vector<double> x;  // (inputs): of what enters the layer
    std::vector<double> z;  // (units)
  };
  void Forward(int64_t row);
  void LossSlopes(int64_t row);
  void Backward(int64_t row);
  // Largest error in f or f′ at z from underflow, where z is a factor.
  double Underflow(double z) const { return 4 * eta_ * (1 + std::abs(z)); }
  // Updates the largest magnitude of the pass.
  void Saw(double magnitude) {
    if (!(magnitude <= largest_) && !overflows()) largest_ = magnitude;  // NaN stays
  }

  const Network& network_;
  const double* const parameters_;
  const Standardization* const standardization_;
  const ExactPass& pass_;
  const double u_;      // unit roundoff
  const double eta_;    // smallest normal number: largest error of an underflow
  const double limit_;  // a quarter of the largest number
  double largest_ = 0;
  std::vector<double> gradient_;
  // Values of the current row.
  std::vector<LayerErrors> errors_;
  std::vector<double> outputs_;  // (k): errors of the outputs
  std::vector<double> da_;       // (widest): dL/da, then dL/dz, exact
  std::vector<double> da_error_;
  std::vector<double> dx_;
  std::vector<double> dx_error_;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_
