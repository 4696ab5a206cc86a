// Large batches are cut by their shape alone and give the same bits on any threads. Every width and
// number of rows near the boundaries of vectors and shards agrees with the reference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "server/engine/pass.h"
#include "server/engine/path.h"
#include "server/engine/step.h"
#include "tests/engine/cases.h"
#include "tests/engine/error_bound.h"

namespace backprop::engine {
namespace {

TEST(InstructionSetTest, IsTheExpectedOne) {
  const char* expected = std::getenv("BACKPROP_EXPECT_INSTRUCTION_SET");
  if (expected == nullptr) {
    EXPECT_FALSE(InstructionSet().empty());
    return;
  }
  EXPECT_EQ(InstructionSet(), expected);
}

// Runs each part on its own thread, from the last part to the first.
class Backwards final : public Parallel {
 public:
  explicit Backwards(int64_t threads) : threads_(threads) {}
  void For(int64_t parts, PartTask task) override {
    std::vector<std::thread> running;
    for (int64_t t = 0; t < threads_; ++t) {
      running.emplace_back([this, t, parts, task] {
        for (int64_t part = parts - 1 - t; part >= 0; part -= threads_) task(part);
      });
    }
    for (std::thread& thread : running) thread.join();
    most_parts = std::max(most_parts, parts);
  }
  int64_t most_parts = 0;

 private:
  const int64_t threads_;
};

class Pauses final : public Parallel {
 public:
  void For(int64_t parts, PartTask task) override { Serial::Get()->For(parts, task); }
  void Pause() override { ++count; }
  int64_t count = 0;
};

int64_t PausesInAStep(const NetworkSpec& spec, int64_t rows) {
  const Network network(spec);
  const auto state = InitialState(network);
  State next(network);
  Dataset data;
  data.rows = rows;
  data.inputs_per_row = spec.input_size;
  data.inputs = Buffer(spec.data_type, rows * spec.input_size);
  data.classes.resize(static_cast<size_t>(rows));
  Workspace workspace;
  Pauses pauses;
  TrainStep(network, *state, data.All(), &workspace, &next, &pauses);
  return pauses.count;
}

// There is a pause between a layer's three products in each of four shards; small passes have none.
TEST(PauseTest, OccursOnlyBetweenTheProductsOfLargePasses) {
  NetworkSpec large;
  large.input_size = 784;
  large.layers = {{256, Activation::kRelu}, {128, Activation::kRelu}, {10}};
  large.loss.kind = Loss::kSoftmaxCrossEntropy;
  EXPECT_GE(PausesInAStep(large, 1024), 4 * (3 + 3 + 2));
  EXPECT_EQ(PausesInAStep(XorSpec(1, DataType::kFloat32), 200), 0);
}

CaseOptions Wide(DataType type, int64_t rows) {
  CaseOptions options;
  options.data_type = type;
  options.inputs = 40;
  options.units = {50, 33, 5};
  options.hidden = {Activation::kTanh, Activation::kRelu};
  options.rows = rows;
  options.dropout = 0.2;
  options.sample_weights = true;
  options.standardize = true;
  options.optimizer.kind = OptimizerKind::kAdam;
  options.optimizer.clipping = Clipping::kNorm;
  options.optimizer.clip = 0.1;
  return options;
}

TEST(ShardsTest, TheSameBitsOnOneAndOnManyThreads) {
  for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    for (bool narrow : {false, true}) {
      CaseOptions options = Wide(type, 1500);
      if (narrow) {
        options.inputs = 30;
        options.units = {32, 31, 5};
      }
      if (!narrow) options.units = {300, 200, 5};  // also many parts of the optimiser's pass
      const Case c = MakeCase(options, 1);
      const Shards shards = ShardsOf(*c.network, 1500);
      SCOPED_TRACE(testing::Message() << "narrow " << narrow << " bytes " << SizeOf(type));
      EXPECT_GT(shards.count, 1) << "the test needs more than one shard";
      Workspace workspace;
      State alone(*c.network), together(*c.network), many(*c.network);
      Backwards two(2), sixty_four(64);
      const auto batch = c.data.All();
      const StepResult a = TrainStep(*c.network, *c.state, batch, &workspace, &alone);
      const StepResult b = TrainStep(*c.network, *c.state, batch, &workspace, &together, &two);
      EXPECT_GE(two.most_parts, shards.count);
      EXPECT_EQ(a.loss.sum, b.loss.sum);
      EXPECT_EQ(a.gradient_norm, b.gradient_norm);
      const size_t bytes = alone.values.size_bytes();
      EXPECT_EQ(std::memcmp(alone.values.bytes(), together.values.bytes(), bytes), 0);
      for (int i = 0; i < 15; ++i) {  // a race may not show every time
        TrainStep(*c.network, *c.state, batch, &workspace, &many, &sixty_four);
        ASSERT_EQ(std::memcmp(alone.values.bytes(), many.values.bytes(), bytes), 0);
      }
    }
  }
}

void ExpectAgrees(const Case& c, std::optional<int64_t> dropout_step) {
  Workspace workspace;
  workspace.Prepare(*c.network, c.data.rows, PassKind::kForwardBackward);
  const LossResult loss = ForwardBackward(ModelOf<double>(*c.network, *c.state), c.data.All(),
                                          dropout_step, &workspace);
  const auto expected =
      c.Reference(dropout_step.has_value() ? std::optional<uint64_t>(*dropout_step) : std::nullopt);
  const double* g = workspace.gradients<double>();
  const std::vector<double> gradients(g, g + c.network->parameter_count());
  EXPECT_NEAR(loss.mean(), expected.loss, 1e-12 * std::max(1.0, expected.loss));
  EXPECT_LE(LargestDifference(gradients, Flatten(expected.grads)), 1e-12);
}

TEST(ShardsTest, AgreeWithTheReference) {
  for (int64_t rows : {255, 256, 512, 513, 577, 1025}) {
    SCOPED_TRACE(rows);
    ExpectAgrees(MakeCase(Wide(DataType::kFloat64, rows), 2), 7);
    CaseOptions narrow = Wide(DataType::kFloat64, rows);
    narrow.inputs = 2;
    narrow.units = {8, 7, 2};
    ExpectAgrees(MakeCase(narrow, 3), 7);
  }
}

TEST(WidthsTest, EveryWidthAndNumberOfRowsAgreesWithTheReference) {
  for (int64_t size = 1; size <= 130; ++size) {
    SCOPED_TRACE(size);
    CaseOptions options;
    options.units = {size, 3};
    options.inputs = size % 7 + 1;
    options.rows = 5;
    ExpectAgrees(MakeCase(options, 1), std::nullopt);  // units
    options.units = {4, size};
    ExpectAgrees(MakeCase(options, 2), std::nullopt);  // classes
    options.units = {6, 3};
    options.inputs = size;
    ExpectAgrees(MakeCase(options, 3), std::nullopt);  // features
    options.inputs = 3;
    options.rows = size;
    ExpectAgrees(MakeCase(options, 4), std::nullopt);  // rows, narrow
    options.units = {33, 3};
    ExpectAgrees(MakeCase(options, 5), std::nullopt);  // rows, wide
  }
}

// The padding after the rows of a vector must not matter: a pass over many rows with infinite
// numbers leaves such numbers there.
TEST(WidthsTest, ValuesThatAnotherPassLeftDoNotMatter) {
  CaseOptions options;
  options.units = {8, 7, 3};
  options.hidden = {Activation::kGelu, Activation::kSoftplus};
  options.rows = 70;
  Case large = MakeCase(options, 1);
  for (int64_t i = 0; i < large.data.inputs.count(); ++i) large.data.inputs.Set(i, 1e308);
  for (int64_t rows : {1, 3, 17, 33}) {
    options.rows = rows;
    const Case small = MakeCase(options, 2);
    State fresh(*small.network), after(*small.network);
    Workspace workspace;
    TrainStep(*small.network, *small.state, small.data.All(), &workspace, &fresh);
    Workspace used;
    TrainStep(*large.network, *large.state, large.data.All(), &used, &after);
    const StepResult result =
        TrainStep(*small.network, *small.state, small.data.All(), &used, &after);
    EXPECT_EQ(result.not_finite, NotFinite::kNothing);
    EXPECT_EQ(std::memcmp(fresh.values.bytes(), after.values.bytes(), fresh.values.size_bytes()),
              0);
  }
}

// In the lanes after the only row, which are computed from inputs 0, the second layer overflows; in
// the row itself nothing does.
TEST(WidthsTest, OverflowInTheLanesAfterTheRowsDoesNotMatter) {
  CaseOptions options;
  options.inputs = 1;
  options.units = {1, 1, 2};
  options.hidden = {Activation::kIdentity, Activation::kIdentity};
  options.rows = 1;
  const Case c = MakeCase(options, 1);
  const double values[] = {-1e200, 1e200, 1e200, 0.5, 1e-200, 2e-200, 0, 0};
  for (int64_t i = 0; i < 8; ++i) c.state->values.Set(i, values[i]);
  Buffer one(DataType::kFloat64, 1);
  one.Set(0, 1);
  BatchView batch = c.data.All();
  batch.inputs = one.bytes();
  Workspace workspace;
  const StepResult result = ComputeGradients(*c.network, *c.state, batch, &workspace);
  EXPECT_EQ(result.not_finite, NotFinite::kNothing);
}

}  // namespace
}  // namespace backprop::engine
