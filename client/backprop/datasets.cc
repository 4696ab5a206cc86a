#include "backprop/datasets.h"

#include <cmath>
#include <numbers>
#include <random>

namespace backprop {
namespace {

// The C++ standard specifies the numbers of the generator but not of its distributions, hence this
// class.
class Random {
 public:
  explicit Random(uint64_t seed) : generator_(seed) {}
  double Uniform() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }  // [0, 1)
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  double Normal(double sigma) {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return sigma * radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  std::mt19937_64 generator_;
};

struct Point {
  double x;
  double y;
  int32_t label;
};

Point Xor(Random* random, int32_t) {
  const double x = random->Uniform(-1, 1);
  const double y = random->Uniform(-1, 1);
  return {x, y, x * y > 0 ? 1 : 0};
}

Point Spiral(Random* random, int32_t i) {
  const int32_t arm = i % 2;
  const double t = random->Uniform();
  const double angle = t * 3 * std::numbers::pi + arm * std::numbers::pi;
  const double radius = 0.1 + 0.9 * t;
  return {radius * std::cos(angle), radius * std::sin(angle), arm};
}

Point Circle(Random* random, int32_t i) {
  const int32_t ring = i % 2;
  const double angle = random->Uniform(0, 2 * std::numbers::pi);
  const double radius = ring == 0 ? 0.4 : 0.9;
  return {radius * std::cos(angle), radius * std::sin(angle), ring};
}

Point Blob(Random*, int32_t i) {
  const int32_t cloud = i % 3;
  const double angle = 2 * std::numbers::pi * (cloud / 3.0 + 0.25);
  return {0.6 * std::cos(angle), 0.6 * std::sin(angle), cloud};
}

struct Set {
  const char* name;
  Point (*draw)(Random*, int32_t);
  double noise;
};
constexpr Set kSets[] = {{"xor", Xor, 0.05},
                         {"spirals", Spiral, 0.02},
                         {"circles", Circle, 0.05},
                         {"blobs", Blob, 0.15}};

}  // namespace

std::optional<Batch> MakeDataset(const std::string& name, const DatasetOptions& options) {
  for (const Set& set : kSets) {
    if (name != set.name) continue;
    Random random(options.seed);
    const double noise = options.noise.value_or(set.noise);
    std::vector<double> inputs;
    Batch batch;
    for (int32_t i = 0; i < options.n; ++i) {
      const Point point = set.draw(&random, i);
      inputs.push_back(point.x + random.Normal(noise));
      inputs.push_back(point.y + random.Normal(noise));
      batch.labels.push_back(point.label);
    }
    batch.inputs = Tensor(options.n, 2, inputs);
    return batch;
  }
  return std::nullopt;
}

const std::vector<std::string>& DatasetNames() {
  static const auto* const names = [] {
    auto* all = new std::vector<std::string>();
    for (const Set& set : kSets) all->push_back(set.name);
    return all;
  }();
  return *names;
}

}  // namespace backprop
