// The reference: loops in float64 that follow the derivation. Everything that the engine computes
// is compared with it. It shares only plain-data specs with the engine.
//
//   z_l = x_l·W_l + b_l        (n, inputs)·(inputs, units) → (n, units)
//   a_l = f_l(z_l)             x_{l+1} = a_l ⊙ mask_l
//   da_l = dx_{l+1} ⊙ mask_l   dz_l = da_l ⊙ f′_l(z_l)
//   dW_l = x_lᵀ·dz_l           db_l = Σ_rows dz_l           dx_l = dz_l·W_lᵀ
#ifndef BACKPROP_TESTS_ENGINE_REFERENCE_H_
#define BACKPROP_TESTS_ENGINE_REFERENCE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "server/engine/spec.h"

namespace backprop::reference {

using Matrix = std::vector<std::vector<double>>;  // [row][column]

Matrix Zeros(size_t rows, size_t cols);

struct Layer {
  Matrix W;               // (inputs, units)
  std::vector<double> b;  // (units)
};

struct Batch {
  Matrix x;                     // (n, d)
  std::vector<int> classes;     // (n), or empty
  Matrix y;                     // (n, k), or empty
  std::vector<double> weights;  // (n), or empty for ones
};

// Mean and standard deviation of each feature.
struct Scaler {
  std::vector<double> mean;
  std::vector<double> std;
};
Scaler FitScaler(const Batch& batch);

struct Result {
  double loss = 0;           // mean
  double weight = 0;         // what it was divided by
  double correct = 0;        // weight of the correctly predicted rows
  Matrix logits;             // (n, k)
  std::vector<Layer> grads;  // dW and db, shaped as the layers
  // Intermediate values for error bounds: x[l] is the input of layer l, da[l] and dz[l] belong to
  // its output.
  std::vector<Matrix> x, z, da, dz, mask;
};

// If `scaler` is null, inputs are unchanged. With `dropout_step`, uses the dropout masks of that
// step; otherwise no dropout.
Result ForwardBackward(const engine::NetworkSpec& spec, const std::vector<Layer>& layers,
                       const Batch& batch, const Scaler* scaler = nullptr,
                       std::optional<uint64_t> dropout_step = std::nullopt);

double F(const engine::LayerSpec& layer, double z);
double FPrime(const engine::LayerSpec& layer, double z);

// A row's targets as softmax cross-entropy uses them: one-hot or given, smoothed, class-weighted.
std::vector<double> SmoothedTargets(const engine::LossSpec& loss, const Batch& batch, size_t row,
                                    size_t k);
// s_i divided by the denominator of the mean.
std::vector<double> Shares(const engine::LossSpec& loss, const Batch& batch);

// State of an optimiser: lists of values shaped as the flat parameters.
struct Optimizer {
  std::vector<double> slot1, slot2, slot3;
  int t = 0;  // steps made
  double plateau_rate = 0;
  double plateau_best = 0;
  int plateau_bad = 0;
  int plateau_cooldown = 0;
};

// The learning rate of the next step.
double LearningRate(const engine::OptimizerSpec& spec, const Optimizer& optimizer);

// Makes one step of the optimiser, with L1, clipping and decay, in place on flat parameters.
void Apply(const engine::OptimizerSpec& spec, std::vector<double> grads,
           std::vector<double>* parameters, Optimizer* optimizer);

// Applies one measurement of the loss to ReduceOnPlateau.
void Measure(const engine::OptimizerSpec& spec, double loss, Optimizer* optimizer);

// The softmax of a row, or its sigmoids.
std::vector<double> Probabilities(engine::Loss loss, const std::vector<double>& z);

}  // namespace backprop::reference

#endif  // BACKPROP_TESTS_ENGINE_REFERENCE_H_
