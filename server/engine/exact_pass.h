// A forward pass in about 104 bits, and the change of the loss when one parameter moves. A gradient
// check takes its finite differences from it. Implemented from the formulas in docs/numerics.md and
// independent of the training kernels.
#ifndef BACKPROP_SERVER_ENGINE_EXACT_PASS_H_
#define BACKPROP_SERVER_ENGINE_EXACT_PASS_H_

#include <cstdint>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/double_double.h"
#include "server/engine/exact_move.h"
#include "server/engine/network.h"

namespace backprop::engine {

// The change of the mean loss L between p − δ and p + δ for one parameter p.
struct Response {
  // L(p + δ) − L(p − δ).
  double rise = 0;
  // A bound on the rounding error of `rise`.
  double noise = 0;
  // The largest |Δz| of a unit whose activation, or of an output whose loss, has a curvature of
  // about 1.
  double reach = 0;
  // The smallest |z| / |Δz| of a unit with a kink at 0, or |z − y| / |Δz| of an output with mean
  // absolute error. At most 1 if a kink lies between p − δ and p + δ. Infinite without kinks.
  double room = 0;
  // Whether a Δ lost digits because it is close to the smallest number.
  bool underflows = false;
};

// Refers to the network, the parameters (P) and the data (float64), which must outlive it and must
// not change. Rows of weight 0 are skipped. Thread-compatible.
class ExactPass {
 public:
  ExactPass(const Network& network, const double* parameters,
            const Standardization* standardization, const Dataset& data);

  // Bytes of memory that a pass over `rows` rows holds.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Computes up to `rows` more rows; returns false when all are computed. The accessors below that
  // take a row require that the row is computed.
  bool Advance(int64_t rows);

  int64_t rows() const { return data_.rows; }
  // s_i / D: the row's share of the mean loss.
  double share(int64_t row) const { return shares_[static_cast<size_t>(row)]; }
  RowTargets wanted(int64_t row) const;
  // The mean loss. Requires that all rows are computed.
  double loss() const { return loss_.high; }
  // Values of one row: the inputs (d), standardised; the units of a layer; the loss.
  const DoubleDouble* x(int64_t row) const { return x_.data() + row * network_.inputs(); }
  const UnitPoint* units(size_t layer, int64_t row) const {
    return units_[layer].data() + row * network_.layers()[layer].units;
  }
  const LossPoint& loss_of(int64_t row) const { return losses_[static_cast<size_t>(row)]; }
  // Input i of a layer for one row.
  DoubleDouble InputOf(size_t layer, int64_t row, int64_t i) const {
    return layer == 0 ? x(row)[i] : units(layer - 1, row)[i].a;
  }

  // The largest |∂z/∂p| over the rows, where p is entry `index` of a layer's tensor and z belongs
  // to the unit that p feeds. It is the largest |input|, or 1 for a bias.
  double LargestInput(const TensorInfo& tensor, size_t layer, int64_t index) const;

  // Moves entry `index` of a layer's tensor by ±δ. Costs one forward pass from that layer on for
  // every row. Requires that all rows are computed.
  Response Move(const TensorInfo& tensor, size_t layer, int64_t index, double delta);

 private:
  // The change of a number, and a bound on the sum of the magnitudes it was computed from.
  struct Change {
    DoubleDouble delta;
    double magnitude = 0;
  };
  void ComputeRow(int64_t row);
  Change MoveUnit(size_t layer, int64_t row, int64_t unit, const Change& dz, Response* response);
  // The change of a row's loss, without its sample weight, when z of a unit changes by `dz`.
  Change MoveRow(int64_t row, size_t layer, int64_t unit, DoubleDouble dz, Response* response);

  const Network& network_;
  const double* const parameters_;
  const Standardization* const standardization_;
  const Dataset& data_;
  const double rounding_;  // error of a change of the loss, relative to its magnitude
  std::vector<double> shares_;
  std::vector<DoubleDouble> x_;
  std::vector<std::vector<UnitPoint>> units_;
  std::vector<LossPoint> losses_;
  DoubleDouble loss_;
  int64_t done_ = 0;
  std::vector<DoubleDouble> scratch_;  // (widest)
  std::vector<Change> da_;             // (widest): changes of a layer's outputs
  std::vector<Change> dz_;             // (widest): changes of the next layer's z
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_EXACT_PASS_H_
