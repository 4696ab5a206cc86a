#include "server/engine/rounding_bound.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <optional>

#include "server/engine/activation.h"
#include "server/engine/exact_move.h"
#include "server/engine/loss.h"

namespace backprop::engine {
namespace {

// Roundings of one evaluation of an activation, its derivative or a loss term, in units of u. The
// functions of vector_math.h are accurate to 3 units in the last place, which is 6·u.
constexpr double kLocal = 16;

double SigmoidAt(double z) {
  return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
}
// σ′ at a given distance from 0.
double SigmoidSlope(double distance) {
  const double e = std::exp(-distance);
  return e / ((1 + e) * (1 + e));
}

// The variation of f and f′ if z is known within E, and the error of evaluating them.
struct Variation {
  double first = 1;        // sup |f′| over [z − E, z + E]
  double second = 0;       // sup |f″| there, away from the kink
  double jump = 0;         // jump of f′, if the kink may lie there
  double value_error = 0;  // rounding of f, absolute, in units of u
  double slope_error = 0;  // rounding of f′, absolute, in units of u
};

// Φ and φ are computed with a relative error that grows as z² where they are small.
Variation GeluVariation(double z, double a, double E) {
  const double nearest = std::max(0.0, std::abs(z) - E);
  const double highest = std::min(z + E, 700.0);
  const double tail = kLocal + (z < 0 ? 4 * z * z : 0);
  const double cdf = std::erfc(-highest / std::sqrt(2.0)) / 2;
  const double pdf = 0.4 * std::exp(-nearest * nearest / 2);
  Variation v;
  v.first = 1.13;
  v.second = 0.8;
  v.value_error = tail * std::abs(a);
  v.slope_error = tail * (cdf + (std::abs(z) + E) * pdf);
  return v;
}

Variation VariationOf(const LayerSpec& layer, double z, double a, double E) {
  Variation v;
  const double nearest = std::max(0.0, std::abs(z) - E);
  const double highest = std::min(z + E, 700.0);
  // At z = 0 without an error, both precisions use the same side.
  const bool at_kink = E > 0 && std::abs(z) <= E;
  v.value_error = kLocal * std::abs(a);
  switch (layer.activation) {
    case Activation::kIdentity:
      v.value_error = 0;
      return v;
    case Activation::kRelu:
      v.first = z + E > 0 ? 1 : 0;
      v.jump = at_kink ? 1 : 0;
      v.value_error = 0;
      return v;
    case Activation::kLeakyRelu:
      v.first = z + E > 0 ? 1 : layer.negative_slope;
      v.jump = at_kink ? 1 - layer.negative_slope : 0;
      v.slope_error = 2;
      return v;
    case Activation::kElu: {
      const double tail = layer.alpha * std::exp(std::min(highest, 0.0));
      v.first = z + E > 0 ? std::max(1.0, layer.alpha) : tail;
      v.second = z - E > 0 ? 0 : tail;
      v.jump = at_kink ? std::abs(1 - layer.alpha) : 0;
      v.slope_error = kLocal * tail;
      return v;
    }
    case Activation::kTanh:
      v.first = 4 * SigmoidSlope(2 * nearest);
      v.second = std::min(0.77, 2 * v.first);
      v.slope_error = kLocal;  // 1 − a²
      return v;
    case Activation::kSigmoid:
      v.first = SigmoidSlope(nearest);
      v.second = std::min(0.097, v.first);
      v.slope_error = kLocal * SigmoidAt(highest);  // a·(1 − a)
      return v;
    case Activation::kGelu:
      return GeluVariation(z, a, E);
    case Activation::kSilu:
      v.first = 1.1;
      v.second = 0.5;
      v.slope_error = 20 * SigmoidAt(highest) * (1 + std::abs(z) + E);
      return v;
    case Activation::kSoftplus:
      v.first = SigmoidAt(highest);
      v.second = std::min(0.25, SigmoidSlope(nearest));
      v.slope_error = kLocal * v.first;
      return v;
  }
  return v;
}

// The precision of a loss: its unit roundoff, its largest underflow, and the relative error of a
// term of the loss.
struct LossPrecision {
  double u;
  double eta;
  double local;
};

// An output of a row: its index, its value, the bound on the error of that value, and its target.
struct Output {
  size_t j;
  double z;
  double Ez;
  double y;
};

// All outputs of a row. Thread-compatible.
struct RowOutputs {
  const LossSpec& loss;
  const UnitPoint* units;
  const std::vector<double>& errors;  // (k): of the values
  RowTargets wanted;

  size_t size() const { return errors.size(); }
  Output At(size_t j) const { return {j, units[j].a.high, errors[j], TargetOf(loss, wanted, j)}; }
};

// Softmax cross-entropy of one row.
class SoftmaxRow {
 public:
  SoftmaxRow(const LossSpec& loss, const RowOutputs& outputs)
      : loss_(loss), outputs_(static_cast<double>(outputs.size())), largest_(outputs.At(0).z) {
    for (size_t j = 0; j < outputs.size(); ++j) {
      const Output output = outputs.At(j);
      largest_ = std::max(largest_, output.z);
      most_ = std::max(most_, output.Ez);
      Q_ += WeightedTarget(output);
    }
    for (size_t j = 0; j < outputs.size(); ++j) sum_exp_ += std::exp(outputs.At(j).z - largest_);
  }

  // Error of the derivative by one output.
  double Error(const Output& output, const LossPrecision& precision) const {
    const auto [u, eta, local] = precision;
    const double q = WeightedTarget(output);
    const double distance = largest_ - output.z;
    const double p = std::exp(-distance) / sum_exp_;
    // Error of z_j − max z, with every z known within most_; a probability is at most 1.
    const double relative = std::expm1(std::min(2 * most_ + u * distance, 700.0));
    const double moved = std::min(p * relative, 1.0);
    return Q_ * (moved + (p + moved) * (outputs_ + kLocal) * u + eta) + local * (Q_ * p + q);
  }

 private:
  // q_j
  double WeightedTarget(const Output& output) const {
    return WeightAt(loss_.class_weights, output.j) *
           ((1 - loss_.label_smoothing) * output.y + loss_.label_smoothing / outputs_);
  }

  const LossSpec& loss_;
  const double outputs_;  // k
  double largest_;        // max z
  double most_ = 0;       // the largest error of an output
  double sum_exp_ = 0;    // Σ e^(z − max z)
  double Q_ = 0;          // Σ q
};

// Error of the derivative of binary cross-entropy by one output, without the division by k.
double BinaryError(const LossSpec& loss, const Output& output, const LossPrecision& precision) {
  const auto [j, z, Ez, y] = output;
  const double w = WeightAt(loss.class_weights, j);
  const double p = WeightAt(loss.pos_weight, j);
  const double both = 1 + (p - 1) * y;
  const double sigmoid = SigmoidAt(std::min(z + Ez, 700.0));
  const double moved = SigmoidSlope(std::max(0.0, std::abs(z) - Ez)) * Ez;
  return w * both * (std::min(moved, 1.0) + precision.eta) +
         precision.local * w * (both * sigmoid + p * y);
}

// The same for a regression loss; d = |z − y|.
double RegressionError(const LossSpec& loss, double d, double Ez, const LossPrecision& precision) {
  const double local = precision.local;
  const double Ed = Ez + precision.u * (d + Ez);
  if (loss.kind == Loss::kMeanSquaredError) return 2 * Ed + 2 * local * (d + Ed);
  if (loss.kind == Loss::kMeanAbsoluteError) return (d <= Ed && Ed > 0 ? 2 : 0) + local;
  const double slope = std::min(d, loss.delta);
  return std::min(Ed, 2 * loss.delta) + local * (slope + Ed);
}

}  // namespace

RoundingBound::RoundingBound(const Network& network, const double* parameters,
                             const Standardization* standardization, const ExactPass& pass,
                             DataType precision)
    : network_(network),
      parameters_(parameters),
      standardization_(standardization),
      pass_(pass),
      u_(precision == DataType::kFloat32 ? 0x1p-24 : 0x1p-53),
      eta_(precision == DataType::kFloat32 ? static_cast<double>(FLT_MIN) : DBL_MIN),
      limit_((precision == DataType::kFloat32 ? static_cast<double>(FLT_MAX) : DBL_MAX) / 4),
      gradient_(static_cast<size_t>(network.parameter_count())),
      outputs_(static_cast<size_t>(network.outputs())),
      da_(static_cast<size_t>(std::max(network.widest(), network.inputs()))),
      da_error_(da_.size()),
      dx_(da_.size()),
      dx_error_(da_.size()) {
  for (const LayerPlan& layer : network.layers()) {
    errors_.push_back({std::vector<double>(static_cast<size_t>(layer.inputs)),
                       std::vector<double>(static_cast<size_t>(layer.units))});
  }
}

void RoundingBound::AddRow(int64_t row) {
  if (pass_.share(row) == 0) return;
  Forward(row);
  LossSlopes(row);
  Backward(row);
}

void RoundingBound::Forward(int64_t row) {
  std::vector<double>& x_error = errors_[0].x;
  for (size_t i = 0; i < x_error.size(); ++i) {
    if (standardization_ == nullptr) break;  // inputs are exact
    // (x − mean) / std in float64, then rounded.
    const double mean = std::abs(standardization_->mean[i]);
    const double std = standardization_->std[i];
    const double x = std::abs(pass_.x(row)[i].high);
    x_error[i] = u_ * x + 4 * 0x1p-53 * (x + mean / std) + eta_;
  }
  for (size_t l = 0; l < network_.layers().size(); ++l) {
    const LayerPlan& layer = network_.layers()[l];
    LayerErrors& errors = errors_[l];
    const double terms = static_cast<double>(layer.inputs + 2);
    std::vector<double>& Ez = errors.z;
    // Ez holds Σ E(x)·|W| and `magnitude` Σ (|x| + E(x))·|W| + |b|.
    std::fill(Ez.begin(), Ez.end(), 0.0);
    std::vector<double>& magnitude = da_;
    for (int64_t j = 0; j < layer.units; ++j) {
      magnitude[static_cast<size_t>(j)] = std::abs(parameters_[layer.bias_offset + j]);
    }
    for (int64_t i = 0; i < layer.inputs; ++i) {
      const double Ex = errors.x[static_cast<size_t>(i)];
      const double size = std::abs(pass_.InputOf(l, row, i).high) + Ex;
      if (size == 0) continue;
      const double* W = parameters_ + layer.weights_offset + i * layer.units;
      for (int64_t j = 0; j < layer.units; ++j) {
        Ez[static_cast<size_t>(j)] += Ex * std::abs(W[j]);
        magnitude[static_cast<size_t>(j)] += size * std::abs(W[j]);
      }
    }
    const bool straight = layer.spec.activation == Activation::kIdentity ||
                          layer.spec.activation == Activation::kRelu;
    const bool last = l + 1 == network_.layers().size();
    std::vector<double>& Ea = last ? outputs_ : errors_[l + 1].x;
    const UnitPoint* units = pass_.units(l, row);
    for (int64_t j = 0; j < layer.units; ++j) {
      const auto at = static_cast<size_t>(j);
      Saw(magnitude[at]);
      // If the magnitude is 0, nothing is added, and nothing rounds or underflows.
      Ez[at] = magnitude[at] == 0 ? 0 : Ez[at] + terms * (u_ * magnitude[at] + eta_);
      const Variation f = VariationOf(layer.spec, units[j].z.high, units[j].a.high, Ez[at]);
      Ea[at] = f.first * Ez[at] + u_ * f.value_error + (straight ? 0 : Underflow(units[j].z.high));
    }
  }
}

// Sets da_ to the exact derivative of the mean loss by each output and da_error_ to its bound.
void RoundingBound::LossSlopes(int64_t row) {
  const LossSpec& loss = network_.spec().loss;
  const double share = pass_.share(row);
  const auto k = static_cast<double>(outputs_.size());
  // D is summed in float64 in either precision.
  const LossPrecision precision = {u_, eta_,
                                   kLocal * u_ + static_cast<double>(pass_.rows()) * 0x1p-53};
  const LossPoint& exact = pass_.loss_of(row);
  const RowOutputs outputs = {loss, pass_.units(network_.layers().size() - 1, row), outputs_,
                              pass_.wanted(row)};
  std::optional<SoftmaxRow> softmax;
  if (loss.kind == Loss::kSoftmaxCrossEntropy) softmax.emplace(loss, outputs);
  for (size_t j = 0; j < outputs.size(); ++j) {
    const Output output = outputs.At(j);
    double error = 0;  // error of the row loss's derivative
    if (softmax.has_value()) {
      error = softmax->Error(output, precision);
    } else if (loss.kind == Loss::kBinaryCrossEntropy) {
      error = BinaryError(loss, output, precision) / k;
    } else {
      error = RegressionError(loss, std::abs(exact.p[j].high), output.Ez, precision) / k;
    }
    da_[j] = share * exact.slope[j];
    da_error_[j] = share * error + eta_;
    Saw(std::abs(da_[j]) + da_error_[j]);
  }
}

void RoundingBound::Backward(int64_t row) {
  // n terms, and the sums of at most 16 shards.
  const double rows = static_cast<double>(pass_.rows() + 18);
  for (size_t l = network_.layers().size(); l-- > 0;) {
    const LayerPlan& layer = network_.layers()[l];
    const UnitPoint* units = pass_.units(l, row);
    for (int64_t j = 0; j < layer.units; ++j) {
      const auto at = static_cast<size_t>(j);
      const auto slope = static_cast<double>(ExactSlope(layer.spec, units[j].z.quad()));
      const double steepness = std::abs(slope);
      const double Ez = errors_[l].z[at];
      const Variation f = VariationOf(layer.spec, units[j].z.high, units[j].a.high, Ez);
      const double Eslope = f.second * Ez + f.jump + u_ * f.slope_error +
                            (f.slope_error > 0 ? Underflow(units[j].z.high) : 0);
      const double da = std::abs(da_[at]);
      const bool straight = layer.spec.activation == Activation::kIdentity;
      const double Edz =
          straight ? da_error_[at]
                   : da_error_[at] * (steepness + Eslope) + da * Eslope + 2 * u_ * da * steepness +
                         (da + da_error_[at] > 0 && steepness + Eslope > 0 ? 2 * eta_ : 0);
      da_[at] *= slope;
      da_error_[at] = Edz;
      const double dz = std::abs(da_[at]);
      Saw(dz + Edz);
      gradient_[static_cast<size_t>(layer.bias_offset + j)] += Edz + rows * u_ * (dz + Edz);
    }
    const double terms = static_cast<double>(layer.units + 2);
    for (int64_t i = 0; i < layer.inputs; ++i) {
      const auto from = static_cast<size_t>(i);
      const double Ex = errors_[l].x[from];
      const double size = std::abs(pass_.InputOf(l, row, i).high);
      const double* W = parameters_ + layer.weights_offset + i * layer.units;
      double* gradient = gradient_.data() + layer.weights_offset + i * layer.units;
      double dx = 0, Edx = 0;
      for (int64_t j = 0; j < layer.units; ++j) {
        const auto at = static_cast<size_t>(j);
        const double dz = std::abs(da_[at]);
        const double Edz = da_error_[at];
        if (dz + Edz == 0) continue;
        if (size + Ex > 0) {
          gradient[j] += size * Edz + Ex * (dz + Edz) + rows * u_ * (size + Ex) * (dz + Edz) + eta_;
        }
        dx += da_[at] * W[j];
        Edx += (Edz + terms * u_ * (dz + Edz)) * std::abs(W[j]) + eta_;
      }
      Saw((size + Ex) * std::abs(dx));
      dx_[from] = dx;
      dx_error_[from] = Edx;
    }
    std::swap(da_, dx_);
    std::swap(da_error_, dx_error_);
  }
}

}  // namespace backprop::engine
