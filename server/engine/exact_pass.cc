#include "server/engine/exact_pass.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/engine/activation.h"
#include "server/engine/loss.h"

namespace backprop::engine {
namespace {

// Number of roundings in one change of an activation or a loss.
constexpr double kMoveRoundings = 256;

// Below this magnitude the low part of a DoubleDouble may underflow.
constexpr double kSmallest = 1e-270;

// Bound on the relative error of a change of the loss: all roundings between a parameter and the
// loss, each relative to the magnitude at its place.
double RoundingOf(const Network& network) {
  double roundings = kMoveRoundings + static_cast<double>(network.outputs());
  for (const LayerPlan& layer : network.layers()) {
    roundings += kMoveRoundings + static_cast<double>(layer.inputs);
  }
  return roundings * kDoubleDoubleUnit;
}

// Whether f is linear on each side of 0.
bool IsStraight(const LayerSpec& layer) {
  return layer.activation == Activation::kIdentity || layer.activation == Activation::kRelu ||
         layer.activation == Activation::kLeakyRelu;
}

}  // namespace

ExactPass::ExactPass(const Network& network, const double* parameters,
                     const Standardization* standardization, const Dataset& data)
    : network_(network),
      parameters_(parameters),
      standardization_(standardization),
      data_(data),
      rounding_(RoundingOf(network)),
      x_(static_cast<size_t>(data.rows * network.inputs())),
      losses_(static_cast<size_t>(data.rows)),
      scratch_(static_cast<size_t>(network.widest())),
      da_(scratch_.size()),
      dz_(scratch_.size()) {
  for (const LayerPlan& layer : network.layers()) {
    units_.emplace_back(static_cast<size_t>(data.rows * layer.units));
  }
  // D: Σ s_i, and for softmax cross-entropy with class indices Σ s_i·w_{y_i}.
  const LossSpec& loss = network.spec().loss;
  const bool by_class = loss.kind == Loss::kSoftmaxCrossEntropy && !data.classes.empty() &&
                        !loss.class_weights.empty();
  Quad D = 0;
  std::vector<double> weights;
  for (int64_t i = 0; i < data.rows; ++i) {
    const double s = data.sample_weights.count() == 0 ? 1 : data.sample_weights.Get(i);
    const auto label = by_class ? static_cast<size_t>(data.classes[static_cast<size_t>(i)]) : 0;
    D += by_class ? Quad(s) * loss.class_weights[label] : Quad(s);
    weights.push_back(s);
  }
  for (const double s : weights) {
    shares_.push_back(D > 0 ? static_cast<double>(Quad(s) / D) : 0);
  }
}

int64_t ExactPass::BytesNeeded(const Network& network, int64_t rows) {
  constexpr int64_t kOutput = 2 * sizeof(double) + 4 * sizeof(DoubleDouble);
  return rows * (static_cast<int64_t>(sizeof(DoubleDouble)) * network.inputs() +
                 static_cast<int64_t>(sizeof(UnitPoint)) * network.units_in_all() +
                 kOutput * network.outputs() + static_cast<int64_t>(sizeof(LossPoint)) + 16);
}

RowTargets ExactPass::wanted(int64_t row) const {
  if (!data_.classes.empty()) return {nullptr, data_.classes[static_cast<size_t>(row)]};
  return {data_.targets.as<double>().data() + row * data_.targets_per_row, 0};
}

bool ExactPass::Advance(int64_t rows) {
  for (; rows > 0 && done_ < data_.rows; --rows, ++done_) {
    if (share(done_) > 0) ComputeRow(done_);
  }
  return done_ < data_.rows;
}

// z = x·W + b:  (inputs)·(inputs, units) + (units) → (units);  a = f(z).
void ExactPass::ComputeRow(int64_t row) {
  const int64_t d = network_.inputs();
  DoubleDouble* x = x_.data() + row * d;
  const double* raw = data_.inputs.as<double>().data() + row * d;
  for (int64_t i = 0; i < d; ++i) {
    const auto at = static_cast<size_t>(i);
    x[i] =
        standardization_ == nullptr
            ? DoubleDouble(raw[i])
            : DoubleDouble((Quad(raw[i]) - standardization_->mean[at]) / standardization_->std[at]);
  }
  for (size_t l = 0; l < network_.layers().size(); ++l) {
    const LayerPlan& layer = network_.layers()[l];
    DoubleDouble* z = scratch_.data();
    std::copy_n(parameters_ + layer.bias_offset, layer.units, z);
    for (int64_t i = 0; i < layer.inputs; ++i) {
      const DoubleDouble in = InputOf(l, row, i);
      if (IsZero(in)) continue;
      const double* W = parameters_ + layer.weights_offset + i * layer.units;
      for (int64_t j = 0; j < layer.units; ++j) z[j] = z[j] + in * W[j];
    }
    UnitPoint* units = units_[l].data() + row * layer.units;
    for (int64_t j = 0; j < layer.units; ++j) units[j] = PointOf(layer.spec, z[j]);
  }
  const UnitPoint* last = units(network_.layers().size() - 1, row);
  for (int64_t j = 0; j < network_.outputs(); ++j) scratch_[static_cast<size_t>(j)] = last[j].a;
  LossPoint& loss = losses_[static_cast<size_t>(row)];
  loss = LossPointOf(network_.spec().loss, wanted(row), scratch_.data(), network_.outputs());
  loss_ = loss_ + DoubleDouble(loss.loss * share(row));
}

double ExactPass::LargestInput(const TensorInfo& tensor, size_t layer, int64_t index) const {
  if (tensor.is_bias) return 1;
  double largest = 0;
  for (int64_t row = 0; row < rows(); ++row) {
    if (share(row) == 0) continue;
    largest = std::max(largest, std::abs(InputOf(layer, row, index / tensor.cols).high));
  }
  return largest;
}

ExactPass::Change ExactPass::MoveUnit(size_t layer, int64_t row, int64_t unit, const Change& dz,
                                      Response* response) {
  const LayerSpec& spec = network_.layers()[layer].spec;
  if (dz.magnitude == 0) return dz;
  if (spec.activation == Activation::kIdentity) return dz;
  const UnitPoint& point = units(layer, row)[unit];
  const double size = std::abs(dz.delta.high);
  if (HasKink(spec)) response->room = std::min(response->room, std::abs(point.z.high) / size);
  if (!IsStraight(spec)) {
    // The curvature of GELU grows with |z|.
    const double bend = spec.activation == Activation::kGelu ? 1 + std::abs(point.z.high) : 1;
    response->reach = std::max(response->reach, size * bend);
  }
  const DoubleDouble delta = ActivationMove(spec, point, dz.delta);
  // Also if the change of a curved unit is 0.
  response->underflows = response->underflows || dz.magnitude < kSmallest ||
                         (!IsStraight(spec) && std::abs(delta.high) < kSmallest);
  constexpr double kSteepest = 1.2;  // largest |f′| of all activations except ELU
  const double slope = size > 0 ? std::abs(delta.high) / size : std::max(kSteepest, spec.alpha);
  return {delta, dz.magnitude * slope};
}

ExactPass::Change ExactPass::MoveRow(int64_t row, size_t layer, int64_t unit, DoubleDouble dz,
                                     Response* response) {
  const int64_t units = network_.layers()[layer].units;
  std::fill_n(da_.begin(), units, Change());
  da_[static_cast<size_t>(unit)] = MoveUnit(layer, row, unit, {dz, std::abs(dz.high)}, response);
  bool changed = da_[static_cast<size_t>(unit)].magnitude > 0;
  for (size_t l = layer + 1; l < network_.layers().size(); ++l) {
    if (!changed) return {};
    const LayerPlan& plan = network_.layers()[l];
    std::fill_n(dz_.begin(), plan.units, Change());
    for (int64_t i = 0; i < plan.inputs; ++i) {
      const Change& da = da_[static_cast<size_t>(i)];
      if (da.magnitude == 0) continue;
      const double* W = parameters_ + plan.weights_offset + i * plan.units;
      for (int64_t j = 0; j < plan.units; ++j) {
        Change& sum = dz_[static_cast<size_t>(j)];
        sum.delta = sum.delta + da.delta * W[j];
        sum.magnitude += da.magnitude * std::abs(W[j]);
      }
    }
    changed = false;
    for (int64_t j = 0; j < plan.units; ++j) {
      const auto at = static_cast<size_t>(j);
      da_[at] = MoveUnit(l, row, j, dz_[at], response);
      changed = changed || da_[at].magnitude > 0;
    }
  }
  if (!changed) return {};
  const LossSpec& spec = network_.spec().loss;
  const LossPoint& point = loss_of(row);
  Change loss;
  for (int64_t j = 0; j < network_.outputs(); ++j) {
    const auto at = static_cast<size_t>(j);
    const double size = std::abs(da_[at].delta.high);
    loss.magnitude += point.magnitude[at] * da_[at].magnitude;
    scratch_[at] = da_[at].delta;
    if (Classifies(spec.kind)) {
      response->reach = std::max(response->reach, size);
    } else if (HasKink(spec.kind) && size > 0) {
      response->room = std::min(response->room, std::abs(point.p[at].high) / size);
    }
  }
  loss.delta = LossMove(spec, point, scratch_.data());
  response->underflows = response->underflows || (loss.magnitude > 0 && loss.magnitude < kSmallest);
  return loss;
}

Response ExactPass::Move(const TensorInfo& tensor, size_t layer, int64_t index, double delta) {
  Response response;
  response.room = std::numeric_limits<double>::infinity();
  const int64_t unit = index % tensor.cols;
  DoubleDouble rise;
  for (int64_t row = 0; row < rows(); ++row) {
    if (share(row) == 0) continue;
    const DoubleDouble x =
        tensor.is_bias ? DoubleDouble(1) : InputOf(layer, row, index / tensor.cols);
    if (IsZero(x)) continue;
    const DoubleDouble dz = x * delta;
    const Change up = MoveRow(row, layer, unit, dz, &response);
    const Change down = MoveRow(row, layer, unit, -dz, &response);
    rise = rise + (up.delta - down.delta) * share(row);
    response.noise += rounding_ * (up.magnitude + down.magnitude) * share(row);
  }
  response.rise = rise.high;
  return response;
}

}  // namespace backprop::engine
