#include "server/engine/network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/engine/random.h"

namespace backprop::engine {

Network::Network(NetworkSpec spec) : spec_(std::move(spec)) {
  int64_t inputs = spec_.input_size;
  for (const LayerSpec& layer : spec_.layers) {
    const int64_t weights = inputs * layer.units;
    layers_.push_back({inputs, layer.units, layer.activation, parameters_, parameters_ + weights});
    parameters_ += weights + layer.units;
    widest_ = std::max(widest_, layer.units);
    units_in_all_ += layer.units;
    largest_weights_ = std::max(largest_weights_, weights);
    inputs = layer.units;
  }
}

std::vector<std::string> Network::slot_names() const {
  switch (spec_.optimizer.kind) {
    case OptimizerKind::kSgd:
      if (spec_.optimizer.momentum == 0) return {};
      return {"momentum"};
    case OptimizerKind::kAdam:
      return {"exp_avg", "exp_avg_sq"};
  }
  return {};
}

int64_t Network::slot_count() const {
  if (spec_.optimizer.kind == OptimizerKind::kAdam) return 2;
  return spec_.optimizer.momentum == 0 ? 0 : 1;
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
    // (inputs + 1)·units ≤ limit − total, without forming a product that may overflow.
    if (layer.units > (limit - total) / (inputs + 1)) return -1;
    total += (inputs + 1) * layer.units;
    inputs = layer.units;
  }
  return total;
}

namespace {

double Draw(Initializer initializer, const LayerPlan& layer, const RandomStream& random,
            int64_t i) {
  const auto position = static_cast<uint64_t>(i);
  const auto fan_in = static_cast<double>(layer.inputs);
  const auto fan_sum = static_cast<double>(layer.inputs + layer.units);
  switch (initializer) {
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
  }
  return 0;
}

}  // namespace

std::shared_ptr<State> InitialState(const Network& network) {
  auto state = std::make_shared<State>(network);
  for (size_t l = 0; l < network.layers().size(); ++l) {
    const LayerPlan& layer = network.layers()[l];
    const RandomStream random(network.spec().seed, RandomPurpose::kInitialWeights, l);
    for (int64_t i = 0; i < layer.inputs * layer.units; ++i) {
      state->values.Set(layer.weights_offset + i,
                        Draw(network.spec().layers[l].initializer, layer, random, i));
    }
  }
  return state;
}

}  // namespace backprop::engine
