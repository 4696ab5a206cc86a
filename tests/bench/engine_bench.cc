// Benchmarks of the engine in process. bp_bench_engine [--quick] [name…] Each figure is the median
// of several repetitions. Pin the process to a core: taskset -c 0.
#include <sched.h>

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/engine/step.h"
#include "server/engine/vector.h"
#include "server/exec/compute_pool.h"
#include "server/exec/lent_threads.h"
#include "tests/bench/figures.h"

namespace backprop::engine {
namespace {

using bench::Print;
using bench::SecondsPerCall;
bench::Options options;

bool Wanted(const std::string& name) { return bench::Wanted(options, name); }

// A model with its data and two states that are used alternately, as in a run.
class Trainee {
 public:
  Trainee(std::vector<int64_t> units, int64_t inputs, int64_t rows, OptimizerSpec optimizer)
      : network_(SpecOf(std::move(units), inputs, optimizer)),
        in_(InitialState(network_)),
        out_(std::make_shared<State>(network_)) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    data_.rows = rows;
    data_.inputs_per_row = inputs;
    data_.inputs = Buffer(DataType::kFloat32, rows * inputs);
    for (float& x : data_.inputs.as<float>()) x = normal(random);
    for (int64_t i = 0; i < rows; ++i) {
      data_.classes.push_back(static_cast<int32_t>(random() % network_.outputs()));
    }
  }

  void Step(Parallel* parallel = Serial::Get()) {
    TrainStep(network_, *in_, data_.All(), &workspace_, out_.get(), parallel);
    std::swap(in_, out_);
  }
  // Probabilities of all rows, in chunks as in the server.
  void Predict() {
    const int64_t k = network_.outputs(), at_once = Workspace::RowsAtOnce(network_);
    probabilities_.resize(static_cast<size_t>(data_.rows * k));
    for (int64_t row = 0; row < data_.rows; row += at_once) {
      const int64_t count = std::min(at_once, data_.rows - row);
      PredictTargets out;
      out.probabilities = reinterpret_cast<std::byte*>(probabilities_.data() + row * k);
      engine::Predict(network_, *in_, data_.View(row, count), &workspace_, out);
    }
  }
  double Flops()
      const {  // operations of a step's products; the gradient of the inputs is not needed
    const auto& first = network_.layers().front();
    return 6.0 * static_cast<double>(data_.rows) * static_cast<double>(network_.parameter_count()) -
           2.0 * static_cast<double>(data_.rows * first.inputs * first.units);
  }

 private:
  static NetworkSpec SpecOf(std::vector<int64_t> units, int64_t inputs, OptimizerSpec optimizer) {
    NetworkSpec spec;
    spec.input_size = inputs;
    for (int64_t u : units) {
      spec.layers.emplace_back();
      spec.layers.back().units = u;
      spec.layers.back().activation = Activation::kRelu;
    }
    spec.layers.back().activation = Activation::kIdentity;
    spec.optimizer = optimizer;
    return spec;
  }

  Network network_;
  Dataset data_;
  std::shared_ptr<State> in_;
  std::shared_ptr<State> out_;
  Workspace workspace_;
  std::vector<float> probabilities_;
};

OptimizerSpec Optimizer(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.learning_rate = 1e-3;
  return spec;
}

// Multiply-adds of independent vectors in registers: the peak of the core.
double PeakFlops() {
  constexpr int kChains = 12;
  constexpr int64_t kTurns = 20'000;
  Vec<float> sums[kChains] = {};
  const double seconds = SecondsPerCall(options, [&] {
    Vec<float> x = Splat<float>(0.999f), y = Splat<float>(1e-3f);
    asm volatile("" : "+m"(x), "+m"(y));
    Vec<float> s[kChains];
    for (int c = 0; c < kChains; ++c) s[c] = sums[c];
    for (int64_t i = 0; i < kTurns; ++i) {
      for (int c = 0; c < kChains; ++c) s[c] = s[c] * x + y;
    }
    for (int c = 0; c < kChains; ++c) sums[c] = s[c];
    asm volatile("" : "+m"(sums));
  });
  return 2.0 * kChains * static_cast<double>(kTurns * kLanes<float>) / seconds;
}

void Xor() {
  for (int64_t rows : {200, 32, 1}) {
    const std::string name = "xor_step_" + std::to_string(rows);
    if (!Wanted(name)) continue;
    Trainee trainee({8, 2}, 2, rows, Optimizer(OptimizerKind::kSgd));
    Print(name, "", SecondsPerCall(options, [&] { trainee.Step(); }) * 1e6, "us");
    if (rows == 200) Print(name, "the limit", 1, "us");
  }
}

void Mlp(double peak) {
  for (int64_t rows : {32, 128, 1024}) {
    for (const auto& [label, kind] :
         {std::pair{"sgd", OptimizerKind::kSgd}, std::pair{"adam", OptimizerKind::kAdam}}) {
      const std::string name = "mlp_" + std::to_string(rows) + "_" + label;
      const std::string share = name + "_gflops";
      if (!Wanted(name) && !Wanted(share)) continue;
      Trainee trainee({256, 128, 10}, 784, rows, Optimizer(kind));
      const double one = SecondsPerCall(options, [&] { trainee.Step(); });
      Print(name, "", one * 1e6, "us");
      Print(share, "", trainee.Flops() / one * 1e-9, "GFLOP/s");
      Print(share, "FMA peak of the core", peak * 1e-9, "GFLOP/s");
    }
  }
}

// The same step on this thread and one from a pool. Needs a second core, regardless of what this
// process was pinned to.
void TwoCores() {
  for (int64_t rows : {128, 1024}) {
    const std::string name = "mlp_" + std::to_string(rows) + "_sgd_two_cores";
    if (!Wanted(name)) continue;
    Trainee trainee({256, 128, 10}, 784, rows, Optimizer(OptimizerKind::kSgd));
    const double one = SecondsPerCall(options, [&] { trainee.Step(); });
    cpu_set_t pinned, two;
    sched_getaffinity(0, sizeof pinned, &pinned);
    CPU_ZERO(&two);
    CPU_SET(0, &two);
    CPU_SET(1, &two);
    sched_setaffinity(0, sizeof two, &two);
    {
      exec::ComputePool pool(1);
      exec::LentThreads lent(&pool);
      Print(name, "", SecondsPerCall(options, [&] { trainee.Step(&lent); }) * 1e6, "us");
    }
    Print(name, "the same on one core", one * 1e6, "us");
    sched_setaffinity(0, sizeof pinned, &pinned);
  }
}

void PredictMany() {
  const int64_t rows = options.quick ? 100 : 10'000;
  for (const auto& [label, units, inputs] :
       {std::tuple{"xor", std::vector<int64_t>{8, 2}, int64_t{2}},
        std::tuple{"mlp", std::vector<int64_t>{256, 128, 10}, int64_t{784}}}) {
    const std::string name = std::string("predict_10000_") + label;
    if (!Wanted(name)) continue;
    Trainee trainee(units, inputs, rows, Optimizer(OptimizerKind::kSgd));
    Print(name, "", SecondsPerCall(options, [&] { trainee.Predict(); }) * 1e6, "us");
  }
}

}  // namespace
}  // namespace backprop::engine

int main(int argc, char** argv) {
  using namespace backprop::engine;
  options = backprop::bench::ParseOptions(argc, argv);
  std::fprintf(stderr, "engine: %s\n", InstructionSet().c_str());
  const double peak = PeakFlops();
  Xor();
  Mlp(peak);
  TwoCores();
  PredictMany();
  return 0;
}
