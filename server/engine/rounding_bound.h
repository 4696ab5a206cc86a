// How far rounding can take a correct gradient from the exact one: the running error analysis that
// docs/numerics.md derives, row by row beside an exact pass.
#ifndef BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_
#define BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "server/engine/exact_pass.h"
#include "server/engine/network.h"

namespace backprop::engine {

// The bound for a pass in one precision. Refers to network, parameters (P) and pass, which must
// outlive it. Thread-compatible.
class RoundingBound {
 public:
  // `standardization` as in the pass; may be null.
  RoundingBound(const Network& network, const double* parameters,
                const Standardization* standardization, const ExactPass& pass, DataType precision);

  // Adds the rows one by one; each row exactly once, after the pass has computed it.
  void AddRow(int64_t row);

  // After all rows. A bound on |computed − exact| for each entry of the gradient, (P), for every
  // order of summation.
  const std::vector<double>& gradient() const { return gradient_; }
  // Whether a number of the pass may exceed the range of the precision: then nothing is known.
  bool overflows() const { return !(largest_ <= limit_); }

 private:
  struct LayerErrors {
    std::vector<double> x;  // (inputs): of what enters the layer
    std::vector<double> z;  // (units)
  };
  void Forward(int64_t row);
  void LossSlopes(int64_t row);
  void Backward(int64_t row);
  // What numbers below the smallest normal one can cost in f or f′ at z, where z is a factor.
  double Underflow(double z) const { return 4 * eta_ * (1 + std::abs(z)); }
  // Keeps the largest magnitude of the pass.
  void Saw(double magnitude) {
    if (!(magnitude <= largest_) && !overflows()) largest_ = magnitude;  // NaN stays
  }

  const Network& network_;
  const double* const parameters_;
  const Standardization* const standardization_;
  const ExactPass& pass_;
  const double u_;      // unit of rounding
  const double eta_;    // smallest normal number: what underflow can cost
  const double limit_;  // a quarter of the largest number
  double largest_ = 0;
  std::vector<double> gradient_;
  // Of the row at hand.
  std::vector<LayerErrors> errors_;
  std::vector<double> outputs_;  // (k): errors of the outputs
  std::vector<double> da_;       // (widest): dL/da, then dL/dz, exact
  std::vector<double> da_error_;
  std::vector<double> dx_;
  std::vector<double> dx_error_;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_ROUNDING_BOUND_H_
