#include "server/engine/network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "tests/engine/reference_random.h"

namespace backprop::engine {
namespace {

NetworkSpec Spec(int64_t inputs, std::vector<int64_t> units) {
  NetworkSpec spec;
  spec.input_size = inputs;
  for (int64_t u : units) {
    spec.layers.emplace_back();
    spec.layers.back().units = u;
  }
  return spec;
}

TEST(NetworkTest, TensorsLieOneAfterTheOther) {
  const Network network(Spec(2, {8, 3}));
  EXPECT_EQ(network.parameter_count(), 2 * 8 + 8 + 8 * 3 + 3);
  EXPECT_EQ(network.inputs(), 2);
  EXPECT_EQ(network.outputs(), 3);
  EXPECT_EQ(network.widest(), 8);
  EXPECT_EQ(network.largest_weights(), 24);
  const auto tensors = network.tensors();
  ASSERT_EQ(tensors.size(), 4U);
  int64_t end = 0;
  for (const TensorInfo& tensor : tensors) {
    EXPECT_EQ(tensor.offset, end);
    end += tensor.size();
  }
  EXPECT_EQ(end, network.parameter_count());
  EXPECT_EQ(tensors[0].name, "layers[0].weights");
  EXPECT_EQ(tensors[0].rows, 2);
  EXPECT_EQ(tensors[0].cols, 8);
  EXPECT_EQ(tensors[3].name, "layers[1].bias");
  EXPECT_TRUE(tensors[3].is_bias);
}

TEST(NetworkTest, CountParametersStopsAtItsLimitWithoutOverflow) {
  EXPECT_EQ(CountParameters(Spec(2, {8, 2}), 42), 42);
  EXPECT_EQ(CountParameters(Spec(2, {8, 2}), 41), -1);
  const int64_t huge = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(CountParameters(Spec(huge, {huge, huge, huge, huge}), 1000000), -1);
  EXPECT_EQ(CountParameters(Spec(huge, {1}), std::numeric_limits<int64_t>::max()), huge + 1);
}

std::vector<std::string> SlotNames(const NetworkSpec& spec) {
  std::vector<std::string> names;
  const Network network(spec);
  for (const SlotInfo& slot : network.slots()) names.push_back(slot.name);
  return names;
}

TEST(NetworkTest, EveryOptimizerHasItsStateTensors) {
  using Names = std::vector<std::string>;
  NetworkSpec spec = Spec(1, {1});
  EXPECT_EQ(SlotNames(spec), Names{});
  spec.optimizer.momentum = 0.9;
  EXPECT_EQ(SlotNames(spec), Names{"momentum"});
  for (OptimizerKind kind : {OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
    spec.optimizer.kind = kind;
    EXPECT_EQ(SlotNames(spec), (Names{"exp_avg", "exp_avg_sq"}));
  }
  EXPECT_EQ(State(Network(spec)).values.count(), 2 * 3);
  spec.optimizer.kind = OptimizerKind::kRmsProp;
  EXPECT_EQ(SlotNames(spec), (Names{"square_avg", "momentum"}));
  spec.optimizer.centered = true;
  EXPECT_EQ(SlotNames(spec), (Names{"square_avg", "momentum", "grad_avg"}));
  spec.optimizer.momentum = 0;
  EXPECT_EQ(SlotNames(spec), (Names{"square_avg", "grad_avg"}));
  spec.optimizer.kind = OptimizerKind::kAdagrad;
  spec.optimizer.initial_accumulator_value = 0.5;
  EXPECT_EQ(SlotNames(spec), Names{"sum"});
  const auto state = InitialState(Network(spec));
  EXPECT_EQ(state->values.Get(2), 0.5);
  EXPECT_EQ(state->values.Get(3), 0.5);
}

TEST(NetworkTest, AConstantInitializerSetsEveryWeight) {
  NetworkSpec spec = Spec(2, {2});
  spec.layers[0].initializer = Initializer::kConstant;
  spec.layers[0].initial_value = 0.25;
  const auto state = InitialState(Network(spec));
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(state->values.Get(i), 0.25);
  for (int64_t i = 4; i < 6; ++i) EXPECT_EQ(state->values.Get(i), 0) << "bias";
}

TEST(NetworkTest, AConstantBiasInitializerSetsEveryBias) {
  NetworkSpec spec = Spec(2, {2});
  spec.layers[0].initializer = Initializer::kZeros;
  spec.layers[0].bias_initializer = Initializer::kConstant;
  spec.layers[0].initial_bias = -0.5;
  const auto state = InitialState(Network(spec));
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(state->values.Get(i), 0) << "weight";
  for (int64_t i = 4; i < 6; ++i) EXPECT_EQ(state->values.Get(i), -0.5) << "bias";
}

// PyTorch's Linear draws weights and biases from U(±1/√fan_in).
TEST(NetworkTest, BiasesAreDrawnAsPytorchDoes) {
  NetworkSpec spec = Spec(100, {20'000});
  spec.layers[0].initializer = Initializer::kZeros;
  spec.layers[0].bias_initializer = Initializer::kPytorchLinear;
  const Network network(spec);
  const auto state = InitialState(network);
  double sum = 0, squares = 0, largest = 0;
  for (int64_t i = 0; i < 20'000; ++i) {
    const double b = state->values.Get(network.layers()[0].bias_offset + i);
    sum += b;
    squares += b * b;
    largest = std::max(largest, std::abs(b));
  }
  EXPECT_NEAR(sum / 20'000, 0, 0.002);
  EXPECT_NEAR(squares / 20'000, 0.01 / 3, 0.0001);
  EXPECT_LE(largest, 0.1);
  EXPECT_GE(largest, 0.099);
}

struct InitializerCase {
  Initializer initializer;
  double variance;
  double bound;  // of |w|; infinite for normals
};

TEST(NetworkTest, InitializersHaveTheirVarianceAndBounds) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const double in = 100, out = 300;
  const InitializerCase cases[] = {
      {Initializer::kHeNormal, 2 / in, kNone},
      {Initializer::kHeUniform, 2 / in, std::sqrt(6 / in)},
      {Initializer::kXavierNormal, 2 / (in + out), kNone},
      {Initializer::kXavierUniform, 2 / (in + out), std::sqrt(6 / (in + out))},
      {Initializer::kPytorchLinear, 1 / (3 * in), std::sqrt(1 / in)},
      {Initializer::kZeros, 0, 0},
  };
  for (const InitializerCase& c : cases) {
    SCOPED_TRACE(static_cast<int>(c.initializer));
    NetworkSpec spec = Spec(100, {300});
    spec.layers[0].initializer = c.initializer;
    const Network network(spec);
    const auto state = InitialState(network);
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < 30000; ++i) {
      const double w = state->values.Get(i);
      sum += w;
      squares += w * w;
      largest = std::max(largest, std::abs(w));
    }
    EXPECT_NEAR(sum / 30000, 0, 0.003);
    EXPECT_NEAR(squares / 30000, c.variance, c.variance * 0.03);
    EXPECT_LE(largest, c.bound);
    if (c.bound < kNone) EXPECT_GE(largest, c.bound * 0.99);
    for (int64_t i = 30000; i < 30300; ++i) EXPECT_EQ(state->values.Get(i), 0) << "bias";
  }
}

// Another program reproduces the draws from docs/numerics.md.
TEST(NetworkTest, InitialWeightsAreThePublishedOnes) {
  NetworkSpec spec = Spec(3, {4, 2});
  spec.data_type = DataType::kFloat64;
  spec.seed = 0xABCDEF0123;
  spec.layers[1].initializer = Initializer::kXavierUniform;
  spec.layers[1].bias_initializer = Initializer::kPytorchLinear;
  const Network network(spec);
  const auto state = InitialState(network);
  const auto unit = [&](uint64_t layer, uint64_t element, size_t word) {
    const auto w = reference::Block(spec.seed, 1, layer, element);
    const uint64_t bits = w[word] + (uint64_t{w[word + 1]} << 32);
    return std::ldexp(static_cast<double>(bits >> 11), -53);
  };
  for (uint64_t e = 0; e < 12; ++e) {
    const double normal = std::sqrt(-2 * std::log(1 - unit(0, e, 0))) *
                          std::cos(2 * std::numbers::pi * unit(0, e, 2));
    EXPECT_NEAR(state->values.Get(static_cast<int64_t>(e)), normal * std::sqrt(2.0 / 3), 1e-15);
  }
  for (uint64_t e = 0; e < 8; ++e) {
    EXPECT_NEAR(state->values.Get(network.layers()[1].weights_offset + static_cast<int64_t>(e)),
                (2 * unit(1, e, 0) - 1) * std::sqrt(6.0 / 6), 1e-15);
  }
  for (uint64_t e = 0; e < 2; ++e) {
    EXPECT_NEAR(state->values.Get(network.layers()[1].bias_offset + static_cast<int64_t>(e)),
                (2 * reference::Uniform(spec.seed, 6, 1, e) - 1) / std::sqrt(4.0), 1e-15)
        << "bias";
  }
}

TEST(NetworkTest, SeedsAndLayersDrawDifferentWeightsAndPrecisionRounds) {
  NetworkSpec spec = Spec(4, {4, 4});
  const auto a = InitialState(Network(spec));
  const auto again = InitialState(Network(spec));
  spec.data_type = DataType::kFloat64;
  const auto precise = InitialState(Network(spec));
  spec.seed = 1;
  const auto b = InitialState(Network(spec));
  EXPECT_EQ(a->values.Get(0), again->values.Get(0));
  EXPECT_EQ(a->values.Get(0), static_cast<double>(static_cast<float>(precise->values.Get(0))));
  EXPECT_NE(precise->values.Get(0), b->values.Get(0));
  EXPECT_NE(a->values.Get(0), a->values.Get(20)) << "second layer";
}

}  // namespace
}  // namespace backprop::engine
