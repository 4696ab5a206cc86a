// Random networks and data for the engine's tests, with their reference counterparts.
#ifndef BACKPROP_TESTS_ENGINE_CASES_H_
#define BACKPROP_TESTS_ENGINE_CASES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/network.h"
#include "tests/engine/reference.h"

namespace backprop::engine {

inline constexpr Activation kActivations[] = {
    Activation::kIdentity, Activation::kRelu,      Activation::kTanh,
    Activation::kSigmoid,  Activation::kLeakyRelu, Activation::kElu,
    Activation::kGelu,     Activation::kSilu,      Activation::kSoftplus};
inline constexpr Loss kLosses[] = {Loss::kSoftmaxCrossEntropy, Loss::kBinaryCrossEntropy,
                                   Loss::kMeanSquaredError, Loss::kMeanAbsoluteError, Loss::kHuber};
// All optimisers, with every option in use.
std::vector<OptimizerSpec> Optimizers();
enum class Wanted { kClasses, kTargets };

// A network with parameters and data, for the engine and for the reference.
struct Case {
  std::string description;
  std::unique_ptr<Network> network;
  std::shared_ptr<State> state;
  Dataset data;
  std::vector<reference::Layer> layers;  // the same parameters
  reference::Batch batch;                // the same data
  std::optional<reference::Scaler> scaler;

  // The reference's pass over this case.
  reference::Result Reference(std::optional<uint64_t> dropout_step = std::nullopt) const {
    return reference::ForwardBackward(network->spec(), layers, batch,
                                      scaler.has_value() ? &*scaler : nullptr, dropout_step);
  }
};

// The properties of a case; the others are drawn from the seed.
struct CaseOptions {
  DataType data_type = DataType::kFloat64;
  LossSpec loss;
  Wanted wanted = Wanted::kClasses;
  std::vector<Activation> hidden = {Activation::kTanh};
  std::vector<int64_t> units = {5, 3};  // one more than hidden
  int64_t inputs = 4;
  int64_t rows = 7;
  OptimizerSpec optimizer;
  double scale = 1;             // of weights and inputs
  double dropout = 0;           // of hidden layers
  bool sample_weights = false;  // some of them 0
  bool standardize = false;     // by a given mean and std
};
Case MakeCase(const CaseOptions& options, uint32_t seed);

// Options drawn from a seed: up to four layers, widths and rows 1 to 40, any activation and loss.
CaseOptions RandomOptions(uint32_t seed, DataType type);

// Reads values in the shape of layers from a flat array laid out like the network's parameters.
std::vector<reference::Layer> Unflatten(const Network& network, const std::vector<double>& flat);
std::vector<double> Flatten(const std::vector<reference::Layer>& layers);
std::vector<double> ToDoubles(const Buffer& buffer, int64_t first, int64_t count);

// Largest |a − b| / max(1, |b|) over two arrays of the same size; NaN counts as infinite.
double LargestDifference(const std::vector<double>& a, const std::vector<double>& b);

// The noisy XOR set: points uniform in [−1, 1]², label x₁·x₂ > 0, then noise of σ = 0.05.
Dataset XorData(int64_t rows, uint32_t seed, DataType type);
// 2 → 8 ReLU → 2, softmax cross-entropy, SGD with learning rate 0.1.
NetworkSpec XorSpec(uint64_t seed, DataType type);

}  // namespace backprop::engine

#endif  // BACKPROP_TESTS_ENGINE_CASES_H_
