// A batch on its way through a network in about 104 bits, and what becomes of the loss when one
// parameter moves: what a gradient check takes its differences of. Written from the formulas of
// docs/numerics.md and independent of the kernels that train.
#ifndef BACKPROP_SERVER_ENGINE_EXACT_PASS_H_
#define BACKPROP_SERVER_ENGINE_EXACT_PASS_H_

#include <cstdint>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/double_double.h"
#include "server/engine/exact_move.h"
#include "server/engine/network.h"

namespace backprop::engine {

// What the mean loss L does between p − δ and p + δ for one parameter p.
struct Response {
  // L(p + δ) − L(p − δ).
  double rise = 0;
  // A bound on the rounding error of `rise`.
  double noise = 0;
  // Largest |Δz| of a unit whose activation, or of an output whose loss, is curved at a scale of 1.
  double reach = 0;
  // Smallest |z| / |Δz| of a unit with a kink at 0, or |z − y| / |Δz| of an output of mean absolute
  // error: at most 1 when a kink lies between p − δ and p + δ. Infinite without kinks.
  double room = 0;
  // Whether a Δ came so near to the smallest number that it lost digits.
  bool underflows = false;
};

// Refers to network, parameters (P) and data (float64), which must outlive it and stay as they are.
// Rows of weight 0 are left out. Thread-compatible.
class ExactPass {
 public:
  ExactPass(const Network& network, const double* parameters,
            const Standardization* standardization, const Dataset& data);

  // Bytes held for so many rows.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Computes up to `rows` more rows; false when all are done. What follows is for rows that are.
  bool Advance(int64_t rows);

  int64_t rows() const { return data_.rows; }
  // s_i / D of a row.
  double share(int64_t row) const { return shares_[static_cast<size_t>(row)]; }
  RowTargets wanted(int64_t row) const;
  // The mean loss of all rows.
  double loss() const { return loss_.high; }
  // Of one row: inputs (d), standardised; units of a layer; the loss.
  const DoubleDouble* x(int64_t row) const { return x_.data() + row * network_.inputs(); }
  const UnitPoint* units(size_t layer, int64_t row) const {
    return units_[layer].data() + row * network_.layers()[layer].units;
  }
  const LossPoint& loss_of(int64_t row) const { return losses_[static_cast<size_t>(row)]; }
  // What enters a layer of a row at place i.
  DoubleDouble InputOf(size_t layer, int64_t row, int64_t i) const {
    return layer == 0 ? x(row)[i] : units(layer - 1, row)[i].a;
  }

  // Largest |∂z/∂p| over the rows, z of the unit that the entry `index` of a layer's tensor leads
  // to: an input, or 1 for a bias.
  double LargestInput(const TensorInfo& tensor, size_t layer, int64_t index) const;

  // Moves the entry by ±δ. The work is that of one row's pass for each row, from that layer on.
  Response Move(const TensorInfo& tensor, size_t layer, int64_t index, double delta);

 private:
  // Δ of a number, and a bound on the sum of the magnitudes that it was computed from.
  struct Change {
    DoubleDouble delta;
    double magnitude = 0;
  };
  void ComputeRow(int64_t row);
  Change MoveUnit(size_t layer, int64_t row, int64_t unit, const Change& dz, Response* response);
  // The change of a row's unweighted loss when z of a unit changes.
  Change MoveRow(int64_t row, size_t layer, int64_t unit, DoubleDouble dz, Response* response);

  const Network& network_;
  const double* const parameters_;
  const Standardization* const standardization_;
  const Dataset& data_;
  const double rounding_;  // of a loss's change, relative to its magnitude
  std::vector<double> shares_;
  std::vector<DoubleDouble> x_;
  std::vector<std::vector<UnitPoint>> units_;
  std::vector<LossPoint> losses_;
  DoubleDouble loss_;
  int64_t done_ = 0;
  std::vector<DoubleDouble> scratch_;  // (widest)
  std::vector<Change> da_;             // (widest): changes of a layer's outputs
  std::vector<Change> dz_;             // (widest): of the next one's z
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_EXACT_PASS_H_
