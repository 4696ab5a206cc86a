// A step allocates nothing. A separate executable, because it replaces operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "server/engine/step.h"
#include "tests/engine/cases.h"

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

// Not inlined, because the compiler would warn about free() of memory from new.
#define BP_NOINLINE __attribute__((noinline))

BP_NOINLINE void* operator new(size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
BP_NOINLINE void* operator new(size_t size, std::align_val_t align) {
  ++allocations;
  const auto a = static_cast<size_t>(align);
  if (void* p = std::aligned_alloc(a, (size + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
BP_NOINLINE void operator delete(void* p) noexcept { std::free(p); }
BP_NOINLINE void operator delete(void* p, size_t) noexcept { std::free(p); }
BP_NOINLINE void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
BP_NOINLINE void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace backprop::engine {
namespace {

TEST(AllocationTest, AStepAllocatesNothingOnceTheWorkspaceHasGrown) {
  for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    for (const OptimizerSpec& optimizer : Optimizers()) {
      CaseOptions options;
      options.data_type = type;
      options.optimizer = optimizer;
      options.dropout = 0.5;
      options.standardize = true;
      options.sample_weights = true;
      options.loss.label_smoothing = 0.1;
      options.inputs = 100;
      options.units = {300, 200, 10};
      options.hidden = {Activation::kRelu, Activation::kSigmoid};
      options.rows = 64;
      const Case c = MakeCase(options, 1);
      Workspace workspace;
      State next(*c.network);
      TrainStep(*c.network, *c.state, c.data.All(), &workspace, &next);
      const int64_t before = allocations;
      for (int i = 0; i < 3; ++i) {
        TrainStep(*c.network, *c.state, c.data.View(0, 64 - i), &workspace, &next);
      }
      EXPECT_EQ(allocations - before, 0);
    }
  }
}

TEST(AllocationTest, TheCounterCounts) {
  const int64_t before = allocations;
  const Buffer buffer(DataType::kFloat32, 10);
  EXPECT_EQ(allocations - before, 1);
}

}  // namespace
}  // namespace backprop::engine
