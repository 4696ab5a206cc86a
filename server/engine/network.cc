#include "server/engine/network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/engine/random.h"

namespace backprop::engine {

namespace {

std::vector<SlotInfo> SlotsOf(const OptimizerSpec& optimizer) {
  const SlotInfo momentum = {"momentum", 0, false};
  switch (optimizer.kind) {
    case OptimizerKind::kSgd:
      if (optimizer.momentum == 0) return {};
      return {momentum};
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return {{"exp_avg", 0, false}, {"exp_avg_sq", 0, true}};
    case OptimizerKind::kRmsProp: {
      std::vector<SlotInfo> slots = {{"square_avg", 0, true}};
      if (optimizer.momentum > 0) slots.push_back(momentum);
      if (optimizer.centered) slots.push_back({"grad_avg", 0, false});
      return slots;
    }
    case OptimizerKind::kAdagrad:
      return {{"sum", optimizer.initial_accumulator_value, true}};
  }
  return {};
}

}  // namespace

Network::Network(NetworkSpec spec) : spec_(std::move(spec)) {
  int64_t inputs = spec_.input_size;
  for (const LayerSpec& layer : spec_.layers) {
    const int64_t weights = inputs * layer.units;
    layers_.push_back({inputs, layer.units, layer, parameters_, parameters_ + weights});
    parameters_ += weights + layer.units;
    widest_ = std::max(widest_, layer.units);
    units_in_all_ += layer.units;
    largest_weights_ = std::max(largest_weights_, weights);
    inputs = layer.units;
  }
  slots_ = SlotsOf(spec_.optimizer);
}

std::vector<TensorInfo> Network::tensors() const {
  std::vector<TensorInfo> all;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerPlan& layer = layers_[i];
    const std::string prefix = "layers[" + std::to_string(i) + "].";
    all.push_back({prefix + "weights", layer.inputs, layer.units, false, layer.weights_offset});
    all.push_back({prefix + "bias", 1, layer.units, true, layer.bias_offset});
  }
  return all;
}

int64_t CountParameters(const NetworkSpec& spec, int64_t limit) {
  int64_t total = 0;
  int64_t inputs = spec.input_size;
  for (const LayerSpec& layer : spec.layers) {
    // (inputs + 1)·units ≤ limit − total, without a product that may overflow.
    if (layer.units > (limit - total) / (inputs + 1)) return -1;
    total += (inputs + 1) * layer.units;
    inputs = layer.units;
  }
  return total;
}

namespace {

// `i` is the index of an element of W, row-major.
double DrawWeight(const LayerPlan& layer, const RandomStream& random, int64_t i) {
  const auto position = static_cast<uint64_t>(i);
  const auto fan_in = static_cast<double>(layer.inputs);
  const auto fan_sum = static_cast<double>(layer.inputs + layer.units);
  switch (layer.spec.initializer) {
    case Initializer::kHeNormal:
      return random.Normal(position) * std::sqrt(2 / fan_in);
    case Initializer::kHeUniform:
      return (2 * random.Uniform(position) - 1) * std::sqrt(6 / fan_in);
    case Initializer::kXavierNormal:
      return random.Normal(position) * std::sqrt(2 / fan_sum);
    case Initializer::kXavierUniform:
      return (2 * random.Uniform(position) - 1) * std::sqrt(6 / fan_sum);
    case Initializer::kZeros:
      return 0;
    case Initializer::kConstant:
      return layer.spec.initial_value;
    case Initializer::kPytorchLinear:
      return (2 * random.Uniform(position) - 1) / std::sqrt(fan_in);
  }
  return 0;
}

double DrawBias(const LayerPlan& layer, const RandomStream& random, int64_t unit) {
  if (layer.spec.bias_initializer == Initializer::kConstant) return layer.spec.initial_bias;
  if (layer.spec.bias_initializer != Initializer::kPytorchLinear) return 0;
  return (2 * random.Uniform(static_cast<uint64_t>(unit)) - 1) /
         std::sqrt(static_cast<double>(layer.inputs));
}

}  // namespace

std::shared_ptr<State> EmptyState(const Network& network) {
  auto state = std::make_shared<State>(network);
  const NetworkSpec& spec = network.spec();
  if (spec.standardize == Standardize::kGiven) {
    state->standardization =
        std::make_shared<Standardization>(Standardization{spec.input_mean, spec.input_std});
  }
  ResetOptimizer(network, state.get());
  return state;
}

std::shared_ptr<State> InitialState(const Network& network) {
  auto state = EmptyState(network);
  for (size_t l = 0; l < network.layers().size(); ++l) {
    const LayerPlan& layer = network.layers()[l];
    const RandomStream weights(network.spec().seed, RandomPurpose::kInitialWeights, l);
    for (int64_t i = 0; i < layer.inputs * layer.units; ++i) {
      state->values.Set(layer.weights_offset + i, DrawWeight(layer, weights, i));
    }
    const RandomStream biases(network.spec().seed, RandomPurpose::kInitialBiases, l);
    for (int64_t unit = 0; unit < layer.units; ++unit) {
      state->values.Set(layer.bias_offset + unit, DrawBias(layer, biases, unit));
    }
  }
  return state;
}

std::shared_ptr<State> Clone(const State& state) {
  auto copy = std::make_shared<State>(state.values.Clone());
  copy->step = state.step;
  copy->optimizer_step = state.optimizer_step;
  copy->plateau = state.plateau;
  copy->standardization = state.standardization;
  return copy;
}

void ResetOptimizer(const Network& network, State* state) {
  const int64_t P = network.parameter_count();
  for (int64_t s = 0; s < network.slot_count(); ++s) {
    const double initial = network.slots()[static_cast<size_t>(s)].initial;
    for (int64_t i = 0; i < P; ++i) state->values.Set((1 + s) * P + i, initial);
  }
  state->optimizer_step = 0;
  state->plateau = InitialPlateau(network.spec().optimizer);
}

}  // namespace backprop::engine
