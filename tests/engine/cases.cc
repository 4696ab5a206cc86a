#include "tests/engine/cases.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "server/engine/loss.h"

namespace backprop::engine {
namespace {

using Random = std::mt19937;

double Uniform(Random& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random()) / 4294967296.0;
}

// Rounds to the case's precision, so that engine and reference see the same number.
double Round(DataType type, double x) {
  return type == DataType::kFloat32 ? static_cast<double>(static_cast<float>(x)) : x;
}

void FillTargets(const CaseOptions& options, int64_t k, Random& random, Case* c) {
  c->data.targets_per_row = k;
  c->data.targets = Buffer(options.data_type, options.rows * k);
  for (int64_t i = 0; i < options.rows; ++i) {
    std::vector<double> y;
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      y.push_back(Classifies(options.loss.kind) ? Uniform(random, 0, 1) : Uniform(random, -2, 2));
      sum += y.back();
    }
    for (int64_t j = 0; j < k; ++j) {
      double& value = y[static_cast<size_t>(j)];
      if (options.loss.kind == Loss::kSoftmaxCrossEntropy) value /= sum;
      value = Round(options.data_type, value);
      c->data.targets.Set(i * k + j, value);
    }
    c->batch.y.push_back(y);
  }
}

}  // namespace

Case MakeCase(const CaseOptions& options, uint32_t seed) {
  Random random(seed);
  Case c;
  NetworkSpec spec;
  spec.input_size = options.inputs;
  spec.loss = options.loss;
  spec.optimizer = options.optimizer;
  spec.data_type = options.data_type;
  for (size_t l = 0; l < options.units.size(); ++l) {
    const bool hidden = l < options.hidden.size();
    LayerSpec layer;
    layer.units = options.units[l];
    layer.activation = hidden ? options.hidden[l] : Activation::kIdentity;
    layer.negative_slope = 0.2;
    layer.alpha = 1.5;
    layer.dropout = hidden ? options.dropout : 0;
    spec.layers.push_back(layer);
  }
  if (options.standardize) {
    spec.standardize = Standardize::kGiven;
    c.scaler.emplace();
    for (int64_t j = 0; j < options.inputs; ++j) {
      spec.input_mean.push_back(Uniform(random, -0.5, 0.5));
      spec.input_std.push_back(Uniform(random, 0.5, 2));
    }
    c.scaler = reference::Scaler{spec.input_mean, spec.input_std};
  }
  c.network = std::make_unique<Network>(spec);
  c.state = InitialState(*c.network);
  for (int64_t i = 0; i < c.network->parameter_count(); ++i) {
    c.state->values.Set(i, Uniform(random, -options.scale, options.scale));
  }
  c.layers = Unflatten(*c.network, ToDoubles(c.state->values, 0, c.network->parameter_count()));

  c.data.rows = options.rows;
  c.data.inputs_per_row = options.inputs;
  c.data.inputs = Buffer(options.data_type, options.rows * options.inputs);
  for (int64_t i = 0; i < options.rows; ++i) {
    c.batch.x.emplace_back();
    for (int64_t j = 0; j < options.inputs; ++j) {
      const double x = Round(options.data_type, Uniform(random, -options.scale, options.scale));
      c.data.inputs.Set(i * options.inputs + j, x);
      c.batch.x.back().push_back(x);
    }
  }
  if (options.sample_weights) {
    c.data.sample_weights = Buffer(options.data_type, options.rows);
    for (int64_t i = 0; i < options.rows; ++i) {
      const double drawn = Round(options.data_type, Uniform(random, 0, 2));
      const double weight = i > 0 && drawn < 0.4 ? 0 : drawn;
      c.data.sample_weights.Set(i, weight);
      c.batch.weights.push_back(weight);
    }
  }
  const int64_t k = options.units.back();
  if (options.wanted == Wanted::kClasses) {
    const auto classes =
        static_cast<uint32_t>(options.loss.kind == Loss::kBinaryCrossEntropy ? 2 : k);
    for (int64_t i = 0; i < options.rows; ++i) {
      c.batch.classes.push_back(static_cast<int>(random() % classes));
      c.data.classes.push_back(c.batch.classes.back());
    }
  } else {
    FillTargets(options, k, random, &c);
  }
  return c;
}

CaseOptions RandomOptions(uint32_t seed, DataType type) {
  Random random(seed);
  const auto width = [&] { return static_cast<int64_t>(1 + random() % 40); };
  CaseOptions options;
  options.data_type = type;
  options.loss.kind = kLosses[random() % std::size(kLosses)];
  options.inputs = width();
  options.rows = width();
  options.units.clear();
  options.hidden.clear();
  const size_t hidden = random() % 4;
  for (size_t l = 0; l < hidden; ++l) {
    options.units.push_back(width());
    options.hidden.push_back(kActivations[random() % std::size(kActivations)]);
  }
  const int64_t outputs = width();
  options.units.push_back(outputs);
  const bool classes_possible = options.loss.kind == Loss::kSoftmaxCrossEntropy ||
                                (options.loss.kind == Loss::kBinaryCrossEntropy && outputs == 1);
  options.wanted = classes_possible && random() % 2 == 0 ? Wanted::kClasses : Wanted::kTargets;
  // Class weights are near 1; some are 0, but never that of class 0.
  const auto weights = [&](bool zeros) {
    std::vector<double> list;
    for (int64_t j = 0; j < outputs; ++j) {
      const double drawn = Uniform(random, 0, 2);
      list.push_back(zeros && j > 0 && drawn < 0.3 ? 0 : Round(type, drawn + 0.1));
    }
    return list;
  };
  if (options.loss.kind == Loss::kSoftmaxCrossEntropy && random() % 2 == 0) {
    options.loss.label_smoothing = Round(type, Uniform(random, 0, 0.5));
  }
  if (Classifies(options.loss.kind) && random() % 2 == 0) {
    options.loss.class_weights = weights(true);
  }
  if (options.loss.kind == Loss::kBinaryCrossEntropy && random() % 2 == 0) {
    options.loss.pos_weight = weights(false);
  }
  options.loss.delta = Round(type, Uniform(random, 0.1, 2));
  options.sample_weights = random() % 2 == 0;
  options.standardize = random() % 3 == 0;
  options.dropout = random() % 3 == 0 ? Uniform(random, 0.05, 0.8) : 0;
  return options;
}

std::vector<OptimizerSpec> Optimizers() {
  std::vector<OptimizerSpec> all;
  const auto add = [&](OptimizerKind kind, double learning_rate) -> OptimizerSpec& {
    all.emplace_back();
    all.back().kind = kind;
    all.back().learning_rate = learning_rate;
    return all.back();
  };
  add(OptimizerKind::kSgd, 0.05);
  add(OptimizerKind::kSgd, 0.05).momentum = 0.9;
  OptimizerSpec& nesterov = add(OptimizerKind::kSgd, 0.05);
  nesterov.momentum = 0.8;
  nesterov.nesterov = true;
  nesterov.weight_decay = 0.01;
  OptimizerSpec& adam = add(OptimizerKind::kAdam, 0.01);
  adam.beta1 = 0.8;
  adam.beta2 = 0.995;
  adam.weight_decay = 0.01;
  add(OptimizerKind::kAdamW, 0.01).weight_decay = 0.1;
  add(OptimizerKind::kRmsProp, 0.002);
  OptimizerSpec& rmsprop = add(OptimizerKind::kRmsProp, 0.002);
  rmsprop.momentum = 0.5;
  rmsprop.centered = true;
  rmsprop.alpha = 0.98;
  OptimizerSpec& adagrad = add(OptimizerKind::kAdagrad, 0.05);
  adagrad.lr_decay = 0.01;
  adagrad.initial_accumulator_value = 0.1;
  adagrad.weight_decay = 0.01;
  return all;
}

std::vector<reference::Layer> Unflatten(const Network& network, const std::vector<double>& flat) {
  std::vector<reference::Layer> layers;
  size_t at = 0;
  for (const LayerPlan& plan : network.layers()) {
    reference::Layer layer;
    for (int64_t i = 0; i < plan.inputs; ++i) {
      layer.W.emplace_back(flat.begin() + static_cast<int64_t>(at),
                           flat.begin() + static_cast<int64_t>(at) + plan.units);
      at += static_cast<size_t>(plan.units);
    }
    layer.b.assign(flat.begin() + static_cast<int64_t>(at),
                   flat.begin() + static_cast<int64_t>(at) + plan.units);
    at += static_cast<size_t>(plan.units);
    layers.push_back(layer);
  }
  return layers;
}

std::vector<double> Flatten(const std::vector<reference::Layer>& layers) {
  std::vector<double> flat;
  for (const reference::Layer& layer : layers) {
    for (const auto& row : layer.W) flat.insert(flat.end(), row.begin(), row.end());
    flat.insert(flat.end(), layer.b.begin(), layer.b.end());
  }
  return flat;
}

std::vector<double> ToDoubles(const Buffer& buffer, int64_t first, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(buffer.Get(first + i));
  return values;
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]) / std::max(1.0, std::abs(b[i]));
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

Dataset XorData(int64_t rows, uint32_t seed, DataType type) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::normal_distribution<double> noise(0, 0.05);
  Dataset data;
  data.rows = rows;
  data.inputs_per_row = 2;
  data.inputs = Buffer(type, rows * 2);
  for (int64_t i = 0; i < rows; ++i) {
    const double x0 = uniform(random);
    const double x1 = uniform(random);
    data.classes.push_back(x0 * x1 > 0 ? 1 : 0);
    data.inputs.Set(2 * i, x0 + noise(random));
    data.inputs.Set(2 * i + 1, x1 + noise(random));
  }
  return data;
}

NetworkSpec XorSpec(uint64_t seed, DataType type) {
  NetworkSpec spec;
  spec.input_size = 2;
  spec.layers.resize(2);
  spec.layers[0].units = 8;
  spec.layers[0].activation = Activation::kRelu;
  spec.layers[1].units = 2;
  spec.optimizer.learning_rate = 0.1;
  spec.seed = seed;
  spec.data_type = type;
  return spec;
}

}  // namespace backprop::engine
