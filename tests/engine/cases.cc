#include "tests/engine/cases.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
      y.push_back(options.loss == Loss::kMeanSquaredError ? Uniform(random, -2, 2)
                                                          : Uniform(random, 0, 1));
      sum += y.back();
    }
    for (int64_t j = 0; j < k; ++j) {
      double& value = y[static_cast<size_t>(j)];
      if (options.loss == Loss::kSoftmaxCrossEntropy) value /= sum;
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
    spec.layers.push_back({options.units[l],
                           l < options.hidden.size() ? options.hidden[l] : Activation::kIdentity,
                           Initializer::kHeNormal});
  }
  c.network = std::make_unique<Network>(spec);
  c.state = std::make_shared<State>(*c.network);
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
  const int64_t k = options.units.back();
  if (options.wanted == Wanted::kClasses) {
    const auto classes = static_cast<uint32_t>(options.loss == Loss::kBinaryCrossEntropy ? 2 : k);
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
  options.loss = kLosses[random() % 3];
  options.inputs = width();
  options.rows = width();
  options.units.clear();
  options.hidden.clear();
  const size_t hidden = random() % 4;
  for (size_t l = 0; l < hidden; ++l) {
    options.units.push_back(width());
    options.hidden.push_back(kActivations[random() % 4]);
  }
  const int64_t outputs = width();
  options.units.push_back(outputs);
  const bool classes_possible = options.loss == Loss::kSoftmaxCrossEntropy ||
                                (options.loss == Loss::kBinaryCrossEntropy && outputs == 1);
  options.wanted = classes_possible && random() % 2 == 0 ? Wanted::kClasses : Wanted::kTargets;
  return options;
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
  spec.layers = {{8, Activation::kRelu, Initializer::kHeNormal},
                 {2, Activation::kIdentity, Initializer::kHeNormal}};
  spec.optimizer.learning_rate = 0.1;
  spec.seed = seed;
  spec.data_type = type;
  return spec;
}

}  // namespace backprop::engine
