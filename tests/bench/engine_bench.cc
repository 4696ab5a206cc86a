// What the engine makes in process, one line of JSON for each figure: {"name", "value", "unit"}.
//   bp_bench_engine [--quick] [name…]
// Each figure is the median of several repetitions. Pin it from outside: taskset -c 0.
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/step.h"
#include "server/engine/vector.h"
#include "server/session/compute_pool.h"
#include "server/session/lent_threads.h"

namespace backprop::engine {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  bool quick = false;
  std::vector<std::string> names;  // empty: all
};
Options options;

bool Wanted(const std::string& name) {
  return options.names.empty() ||
         std::any_of(options.names.begin(), options.names.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

// Seconds of one call of `work`, the median of several rounds of about 0.1 s.
double SecondsOf(const std::function<void()>& work) {
  const double round = options.quick ? 0.002 : 0.1;
  const int rounds = options.quick ? 1 : 11;
  int64_t calls = 1;
  const auto time = [&] {
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) work();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  work();
  while (time() < round / 2) calls *= 2;
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) seconds.push_back(time() / static_cast<double>(calls));
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void Print(const std::string& name, double value, const char* unit) {
  std::printf("{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n", name.c_str(), value, unit);
  std::fflush(stdout);
}

// A model with its data and two states that take turns, as in a run.
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
  double Flops() const {  // of a step's products: no gradient of the inputs is needed
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
};

OptimizerSpec Optimizer(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.learning_rate = 1e-3;
  return spec;
}

// Multiply-adds of independent vectors in registers: what the core could do at most.
double PeakFlops() {
  constexpr int kChains = 12;
  constexpr int64_t kTurns = 20'000;
  Vec<float> sums[kChains] = {};
  const double seconds = SecondsOf([&] {
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
    Print(name, SecondsOf([&] { trainee.Step(); }) * 1e6, "us");
  }
}

void Mlp() {
  for (int64_t rows : {32, 128, 1024}) {
    for (const auto& [label, kind] :
         {std::pair{"sgd", OptimizerKind::kSgd}, std::pair{"adam", OptimizerKind::kAdam}}) {
      const std::string name = "mlp_" + std::to_string(rows) + "_" + label;
      if (!Wanted(name)) continue;
      Trainee trainee({256, 128, 10}, 784, rows, Optimizer(kind));
      const double one = SecondsOf([&] { trainee.Step(); });
      Print(name, one * 1e6, "us");
      Print(name + "_gflops", trainee.Flops() / one * 1e-9, "GFLOP/s");
    }
  }
}

// The same step on this thread and one that a pool lends. Needs a second core, whatever this
// process was pinned to.
void TwoCores() {
  const std::string name = "two_cores_mlp_1024_sgd";
  if (!Wanted(name)) return;
  Trainee trainee({256, 128, 10}, 784, 1024, Optimizer(OptimizerKind::kSgd));
  const double one = SecondsOf([&] { trainee.Step(); });
  cpu_set_t pinned, two;
  sched_getaffinity(0, sizeof pinned, &pinned);
  CPU_ZERO(&two);
  CPU_SET(0, &two);
  CPU_SET(1, &two);
  sched_setaffinity(0, sizeof two, &two);
  {
    session::ComputePool pool(1);
    session::LentThreads lent(&pool);
    Print(name, SecondsOf([&] { trainee.Step(&lent); }) * 1e6, "us");
  }
  Print(name + "_alone", one * 1e6, "us");
  sched_setaffinity(0, sizeof pinned, &pinned);
}

}  // namespace
}  // namespace backprop::engine

int main(int argc, char** argv) {
  using namespace backprop::engine;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else {
      options.names.emplace_back(argv[i]);
    }
  }
  std::fprintf(stderr, "engine: %s\n", InstructionSet().c_str());
  if (Wanted("fma_peak")) Print("fma_peak", PeakFlops() * 1e-9, "GFLOP/s");
  Xor();
  Mlp();
  TwoCores();
  return 0;
}
