// A thread that trains lets threads that wait for its core have it.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/session/fixture.h"

namespace {

std::atomic<int64_t> all_yields{0};

}  // namespace

// Replaces the C library's function in this program.
extern "C" int sched_yield() noexcept {
  ++all_yields;
  return static_cast<int>(syscall(SYS_sched_yield));
}

namespace backprop::session {
namespace {

using YieldingTest = SessionFixture;

// A run yields between steps of the XOR network, and within those of a large one.
TEST_F(YieldingTest, RunsLetOthersRunBetweenSmallSteps) {
  const auto run = Train(Create("m").get(), kForever);
  ASSERT_TRUE(run.ok());
  const int64_t before = all_yields;
  const int64_t first = (*run)->log().last_sequence();
  while (all_yields < before + 100) std::this_thread::sleep_for(std::chrono::microseconds(100));
  EXPECT_GE((*run)->log().last_sequence(), first);
  (*run)->RequestStop(records::StopReason::kStopped);
  WaitFor(*run);
}

TEST_F(YieldingTest, AndWithinLargeOnes) {
  // One step takes about 10 ms on one core.
  engine::NetworkSpec spec;
  spec.input_size = 784;
  spec.layers = {{256, engine::Activation::kRelu}, {128, engine::Activation::kRelu}, {10}};
  spec.loss.kind = engine::Loss::kSoftmaxCrossEntropy;
  const auto model = SessionOf(spec);
  engine::Dataset rows;
  rows.rows = 1024;
  rows.inputs_per_row = 784;
  rows.inputs = engine::Buffer(engine::DataType::kFloat32, 1024 * 784);
  rows.classes.resize(1024);
  Session::TrainArgs args;
  args.data.rows = std::make_shared<const engine::Dataset>(std::move(rows));
  args.config.iterations = 1;
  args.config.batch_size = 1024;
  args.cancelled = Never();
  const int64_t before = all_yields;
  WaitFor(Start(model.get(), std::move(args)));
  EXPECT_GE(all_yields - before, 10);
}

}  // namespace
}  // namespace backprop::session
