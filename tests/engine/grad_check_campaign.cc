// Runs GradCheck on random models with correct gradients at every scale, and on wrong gradients.
//   bp_grad_check_campaign [--models N] [--seed S] [--threads T] [--bug] [--first I] [--healthy]
// Exits with 1 on a false alarm, on a wrong gradient that passed, or if more than 0.1 % of the
// tensors of models with scales within 1e-3 … 1e3 are inconclusive. --bug means that the engine was
// built with a bug: it then exits with 1 if a model passes whose gradient differs from the
// reference's by more than rounding, or if nothing failed. scripts/grad-check-campaign runs it;
// docs/numerics.md has the results.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/engine/activation.h"
#include "server/engine/grad_check.h"
#include "server/engine/loss.h"
#include "server/engine/standardize.h"
#include "server/engine/step.h"
#include "tests/engine/cases.h"

namespace backprop::engine {
namespace {

using Random = std::mt19937_64;

double Uniform(Random& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}
int64_t Whole(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}
bool Chance(Random& random, double p) { return Uniform(random, 0, 1) < p; }

struct Sample {
  std::string description;
  bool ordinary = false;  // inputs, targets and parameters within 1e-3 … 1e3
  std::unique_ptr<Network> network;
  std::shared_ptr<State> state;
  Dataset data;
};

void Describe(Sample* s, const char* name, double value) {
  char text[64];
  std::snprintf(text, sizeof text, " %s=%.3g", name, value);
  s->description += text;
}

NetworkSpec DrawSpec(Random& random, Sample* s) {
  NetworkSpec spec;
  spec.data_type = Chance(random, 0.5) ? DataType::kFloat32 : DataType::kFloat64;
  spec.input_size = Whole(random, 1, 12);
  spec.loss.kind = kLosses[Whole(random, 0, std::size(kLosses) - 1)];
  const int64_t layers = Whole(random, 1, 5);
  for (int64_t l = 0; l < layers; ++l) {
    LayerSpec layer;
    layer.units = Chance(random, 0.1) ? Whole(random, 13, 40) : Whole(random, 1, 12);
    const bool last = l + 1 == layers;
    if (!last || (!Classifies(spec.loss.kind) && Chance(random, 0.2))) {
      layer.activation = kActivations[Whole(random, 0, std::size(kActivations) - 1)];
    }
    layer.negative_slope = 0.2;
    layer.alpha = Chance(random, 0.5) ? 1 : 1.5;
    if (last && spec.loss.kind == Loss::kSoftmaxCrossEntropy) {
      layer.units = std::max<int64_t>(layer.units, 2);
    }
    s->description += " " + std::to_string(layer.units) + "/" +
                      std::to_string(static_cast<int>(layer.activation));
    spec.layers.push_back(layer);
  }
  const auto k = static_cast<size_t>(spec.layers.back().units);
  const auto weights = [&] {
    std::vector<double> list;
    for (size_t j = 0; j < k; ++j) list.push_back(Uniform(random, 0.1, 3));
    return list;
  };
  if (spec.loss.kind == Loss::kSoftmaxCrossEntropy && Chance(random, 0.3)) {
    spec.loss.label_smoothing = Uniform(random, 0.01, 0.5);
  }
  if (Classifies(spec.loss.kind) && Chance(random, 0.3)) spec.loss.class_weights = weights();
  if (spec.loss.kind == Loss::kBinaryCrossEntropy && Chance(random, 0.3)) {
    spec.loss.pos_weight = weights();
  }
  return spec;
}

void DrawData(Random& random, const NetworkSpec& spec, double input_scale, double target_scale,
              Dataset* data) {
  data->rows = static_cast<int64_t>(std::exp(Uniform(random, 0, std::log(301.0))));
  data->inputs_per_row = spec.input_size;
  data->inputs = Buffer(spec.data_type, data->rows * spec.input_size);
  for (int64_t i = 0; i < data->rows * spec.input_size; ++i) {
    data->inputs.Set(i, input_scale * Uniform(random, -1, 1));
  }
  const int64_t k = spec.layers.back().units;
  const bool labels = spec.loss.kind == Loss::kSoftmaxCrossEntropy ||
                      (spec.loss.kind == Loss::kBinaryCrossEntropy && k == 1);
  if (labels && Chance(random, 0.7)) {
    for (int64_t i = 0; i < data->rows; ++i) {
      data->classes.push_back(static_cast<int32_t>(Whole(random, 0, std::max<int64_t>(k, 2) - 1)));
    }
  } else {
    data->targets_per_row = k;
    data->targets = Buffer(spec.data_type, data->rows * k);
    for (int64_t i = 0; i < data->rows; ++i) {
      double sum = 0;
      std::vector<double> y;
      for (int64_t j = 0; j < k; ++j) {
        y.push_back(Classifies(spec.loss.kind) ? Uniform(random, 0, 1)
                                               : target_scale * Uniform(random, -1, 1));
        if (spec.loss.kind == Loss::kBinaryCrossEntropy) y.back() = Chance(random, 0.5) ? 1 : 0;
        sum += y.back();
      }
      for (int64_t j = 0; j < k; ++j) {
        const double value = y[static_cast<size_t>(j)];
        data->targets.Set(i * k + j,
                          spec.loss.kind == Loss::kSoftmaxCrossEntropy ? value / sum : value);
      }
    }
  }
  if (!Chance(random, 0.3)) return;
  data->sample_weights = Buffer(spec.data_type, data->rows);
  for (int64_t i = 0; i < data->rows; ++i) {
    data->sample_weights.Set(i, i > 0 && Chance(random, 0.2) ? 0 : Uniform(random, 0.1, 2));
  }
}

Sample Draw(uint64_t seed) {
  Random random(seed);
  Sample s;
  s.ordinary = Chance(random, 0.5);
  const double decades = s.ordinary ? 3 : 6;
  const auto scale = [&] { return std::pow(10, Uniform(random, -decades, decades)); };
  NetworkSpec spec = DrawSpec(random, &s);
  const double input_scale = scale();
  const double target_scale = scale();
  const double weight_scale = scale();
  spec.loss.delta = target_scale * Uniform(random, 0.1, 2);
  DrawData(random, spec, input_scale, target_scale, &s.data);
  const bool standardize = Chance(random, 0.3);
  if (standardize) spec.standardize = Standardize::kFitted;
  const bool trained = Chance(random, 0.5);
  spec.optimizer.kind = Chance(random, 0.5) ? OptimizerKind::kSgd : OptimizerKind::kAdam;
  spec.optimizer.learning_rate = std::pow(10, Uniform(random, -4, -0.5));
  if (trained) spec.optimizer.learning_rate *= std::min(1.0, weight_scale);
  Describe(&s, "loss", static_cast<double>(spec.loss.kind));
  Describe(&s, "float", spec.data_type == DataType::kFloat32 ? 32 : 64);
  Describe(&s, "d", static_cast<double>(spec.input_size));
  Describe(&s, "rows", static_cast<double>(s.data.rows));
  Describe(&s, "x", input_scale);
  Describe(&s, "y", target_scale);
  Describe(&s, "w", weight_scale);
  Describe(&s, "standardized", standardize ? 1 : 0);
  s.network = std::make_unique<Network>(spec);
  s.state = InitialState(*s.network);
  for (int64_t i = 0; i < s.network->parameter_count(); ++i) {
    s.state->values.Set(i, weight_scale * Uniform(random, -1, 1));
  }
  if (standardize) s.state->standardization = FitStandardization(s.data);
  const int64_t steps = trained ? Whole(random, 1, 300) : 0;
  Workspace workspace;
  int64_t made = 0;
  for (; made < steps; ++made) {
    auto next = std::make_shared<State>(*s.network);
    const StepResult result =
        TrainStep(*s.network, *s.state, s.data.All(), &workspace, next.get(), Serial::Get());
    if (result.not_finite != NotFinite::kNothing) break;
    s.state = std::move(next);
  }
  Describe(&s, "steps", static_cast<double>(made));
  // Training can diverge: then the model that is checked has other scales than the one drawn.
  double largest = 0;
  for (int64_t i = 0; i < s.network->parameter_count(); ++i) {
    largest = std::max(largest, std::abs(s.state->values.Get(i)));
  }
  Describe(&s, "p", largest);
  s.ordinary = s.ordinary && largest <= 1e3;
  return s;
}

// A model whose next step would be rejected because its loss or gradient is not finite is not
// healthy.
bool Healthy(const Sample& s) {
  if (s.network->spec().standardize == Standardize::kFitted &&
      s.state->standardization == nullptr) {
    return false;
  }
  Workspace workspace;
  State next(*s.network);
  return TrainStep(*s.network, *s.state, s.data.All(), &workspace, &next, Serial::Get())
             .not_finite == NotFinite::kNothing;
}

std::unique_ptr<GradChecker> Check(const Sample& s) {
  GradCheckOptions options;
  options.max_entries_per_tensor = s.network->parameter_count();
  auto checker = std::make_unique<GradChecker>(*s.network, *s.state, s.data, options);
  while (checker->Advance(1000)) {
  }
  return checker;
}

// Makes a tensor, or one entry of it, wrong.
void Mutate(uint64_t seed, const Network& network, bool one_entry, std::vector<double>* gradients) {
  Random random(seed);
  const auto tensors = network.tensors();
  const TensorInfo& tensor =
      tensors[static_cast<size_t>(Whole(random, 0, static_cast<int64_t>(tensors.size()) - 1))];
  const auto begin = gradients->begin() + tensor.offset;
  if (!one_entry) {
    std::for_each(begin, begin + tensor.size(), [](double& g) { g *= 1.001; });
    return;
  }
  double square = 0;
  for (int64_t i = 0; i < tensor.size(); ++i) square += begin[i] * begin[i];
  double& g = begin[Whole(random, 0, tensor.size() - 1)];
  switch (Whole(random, 0, 3)) {
    case 0:
      g = -g;
      return;
    case 1:
      g *= 1.01;
      return;
    case 2:
      g += std::sqrt(square / static_cast<double>(tensor.size()));
      return;
    default:
      g = 0;
  }
}

// Whether an entry changed by more than rounding and underflow can explain; a smaller change is no
// error.
bool IsWrong(const GradCheckPoint& point, const std::vector<double>& gradients) {
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (std::abs(gradients[i] - point.analytic()[i]) > 2 * (point.rounding()[i] + 1e-200)) {
      return true;
    }
  }
  return false;
}

// The gradient of tests/engine/reference.cc, which is independent of the engine's bugs.
std::vector<double> ReferenceGradient(const Sample& s) {
  reference::Batch batch;
  const auto d = static_cast<size_t>(s.data.inputs_per_row);
  const auto k = static_cast<size_t>(s.data.targets_per_row);
  for (size_t i = 0; i < static_cast<size_t>(s.data.rows); ++i) {
    const auto row = static_cast<int64_t>(i);
    batch.x.emplace_back();
    for (size_t j = 0; j < d; ++j) {
      batch.x.back().push_back(s.data.inputs.Get(static_cast<int64_t>(i * d + j)));
    }
    if (!s.data.classes.empty()) batch.classes.push_back(s.data.classes[i]);
    if (s.data.classes.empty()) batch.y.emplace_back();
    for (size_t j = 0; s.data.classes.empty() && j < k; ++j) {
      batch.y.back().push_back(s.data.targets.Get(static_cast<int64_t>(i * k + j)));
    }
    if (s.data.sample_weights.count() > 0) batch.weights.push_back(s.data.sample_weights.Get(row));
  }
  const auto layers =
      Unflatten(*s.network, ToDoubles(s.state->values, 0, s.network->parameter_count()));
  std::optional<reference::Scaler> scaler;
  if (s.state->standardization != nullptr) {
    scaler = reference::Scaler{s.state->standardization->mean, s.state->standardization->std};
  }
  return Flatten(reference::ForwardBackward(s.network->spec(), layers, batch,
                                            scaler.has_value() ? &*scaler : nullptr)
                     .grads);
}

struct Totals {
  int64_t models = 0, unhealthy = 0, false_alarms = 0;
  int64_t tensors[2] = {}, inconclusive[2] = {};  // scales within 1e-6 … 1e6, within 1e-3 … 1e3
  int64_t entries = 0, set_aside = 0, unresolved = 0;
  int64_t factors = 0, factors_passed = 0, factors_failed = 0, factors_right = 0;
  int64_t wrong = 0, wrong_passed = 0, wrong_failed = 0;
  int64_t bugs = 0, bugs_failed = 0, bugs_passed = 0;  // models in which the bug has an effect
  double largest_error = 0;                            // largest relative error of a healthy entry
  double largest_bound_ratio = 0;                      // largest for the training kernels
};

std::mutex mutex;
Totals totals;

void PrintTensor(const TensorGradCheck& t) {
  std::printf(
      "    verdict %d; %s; checked %lld, aside %lld, unresolved %lld, worst %lld: %.9g %.9g"
      " bound %.3g; kernel %.3g ratio %.3g\n",
      static_cast<int>(t.verdict), t.explanation.c_str(), static_cast<long long>(t.checked),
      static_cast<long long>(t.set_aside), static_cast<long long>(t.unresolved),
      static_cast<long long>(t.worst), t.worst_analytic, t.worst_numeric, t.worst_error_bound,
      t.kernel_max_relative_error, t.kernel_max_bound_ratio);
}

void Report(const char* what, uint64_t seed, const Sample& s, const GradCheckReport& report) {
  std::printf("%s: model %llu:%s: %s\n", what, static_cast<unsigned long long>(seed),
              s.description.c_str(), report.explanation.c_str());
  for (const TensorGradCheck& tensor : report.tensors) PrintTensor(tensor);
}

bool verbose = false;  // prints models of ordinary scales that are inconclusive

void CheckHealthy(uint64_t seed, const Sample& s, const GradChecker& checker) {
  const GradCheckReport report = checker.report();
  const std::lock_guard lock(mutex);
  if (report.verdict == Verdict::kFailed) {
    ++totals.false_alarms;
    Report("FALSE ALARM", seed, s, report);
  }
  if (verbose && s.ordinary && report.verdict == Verdict::kInconclusive) {
    Report("inconclusive", seed, s, report);
  }
  for (const TensorGradCheck& tensor : report.tensors) {
    ++totals.tensors[s.ordinary];
    totals.inconclusive[s.ordinary] += tensor.verdict == Verdict::kInconclusive ? 1 : 0;
    totals.entries += tensor.checked;
    totals.set_aside += tensor.set_aside;
    totals.unresolved += tensor.unresolved;
    totals.largest_error = std::max(totals.largest_error, tensor.max_relative_error);
    totals.largest_bound_ratio =
        std::max(totals.largest_bound_ratio, tensor.kernel_max_bound_ratio);
  }
}

// Whether a change made the gradient right: some entries of a tensor had a rounding error above the
// tolerance, and with the change all of them agree with the finite differences.
bool Corrects(const GradCheckReport& healthy, const GradCheckReport& changed) {
  for (size_t t = 0; t < healthy.tensors.size(); ++t) {
    if (healthy.tensors[t].unresolved > 0 && changed.tensors[t].unresolved == 0) return true;
  }
  return false;
}

void CheckMutant(uint64_t seed, const Sample& s, const GradChecker& checker, bool one_entry) {
  const auto mutate = [&](std::vector<double>* gradients) {
    Mutate(seed + 1, *s.network, one_entry, gradients);
  };
  std::vector<double> gradients = checker.point().analytic();
  mutate(&gradients);
  // Any factor must be detected, however small the gradient is.
  if (one_entry ? !IsWrong(checker.point(), gradients) : gradients == checker.point().analytic()) {
    return;
  }
  const GradCheckReport report = checker.Judge(mutate);
  const std::lock_guard lock(mutex);
  if (!one_entry && Corrects(checker.report(), report)) {
    ++totals.factors_right;
    return;
  }
  const bool passed = report.verdict == Verdict::kPassed;
  const bool failed = report.verdict == Verdict::kFailed;
  (one_entry ? totals.wrong : totals.factors) += 1;
  (one_entry ? totals.wrong_failed : totals.factors_failed) += failed ? 1 : 0;
  (one_entry ? totals.wrong_passed : totals.factors_passed) += passed ? 1 : 0;
  if (passed) Report(one_entry ? "WRONG ENTRY PASSED" : "FACTOR PASSED", seed, s, report);
}

void CheckBug(uint64_t seed, const Sample& s, const GradChecker& checker) {
  const GradCheckReport report = checker.report();
  const bool shows = IsWrong(checker.point(), ReferenceGradient(s));
  const std::lock_guard lock(mutex);
  totals.bugs += shows || report.verdict == Verdict::kFailed ? 1 : 0;
  totals.bugs_failed += report.verdict == Verdict::kFailed ? 1 : 0;
  if (!shows || report.verdict != Verdict::kPassed) return;
  ++totals.bugs_passed;
  Report("THE BUG PASSED", seed, s, report);
}

bool bug = false;
bool healthy_only = false;

void CheckModel(uint64_t seed) {
  const Sample s = Draw(seed);
  const bool healthy = Healthy(s);
  {
    const std::lock_guard lock(mutex);
    totals.models += healthy ? 1 : 0;
    totals.unhealthy += healthy ? 0 : 1;
  }
  if (!healthy) return;
  const auto checker = Check(s);
  if (bug) return CheckBug(seed, s, *checker);
  CheckHealthy(seed, s, *checker);
  if (healthy_only) return;
  CheckMutant(seed, s, *checker, false);
  CheckMutant(seed, s, *checker, true);
}

double Percent(int64_t part, int64_t all) {
  return all == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(all);
}

int Main(int argc, char** argv) {
  uint64_t models = 2000, seed = 1, threads = std::thread::hardware_concurrency(), only = 0,
           first = 0;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&] { return std::strtoull(argv[++i], nullptr, 10); };
    if (std::strcmp(argv[i], "--verbose") == 0) {
      verbose = true;
    } else if (std::strcmp(argv[i], "--healthy") == 0) {
      healthy_only = true;
    } else if (std::strcmp(argv[i], "--bug") == 0) {
      bug = true;
    } else if (i + 1 == argc) {
      std::fprintf(stderr,
                   "usage: %s [--models N] [--seed S] [--threads T] [--bug] [--only MODEL]\n"
                   "       [--first I] [--healthy] [--verbose]\n",
                   argv[0]);
      return 2;
    } else if (std::strcmp(argv[i], "--models") == 0) {
      models = value();
    } else if (std::strcmp(argv[i], "--first") == 0) {
      first = value();
    } else if (std::strcmp(argv[i], "--seed") == 0) {
      seed = value();
    } else if (std::strcmp(argv[i], "--threads") == 0) {
      threads = value();
    } else if (std::strcmp(argv[i], "--only") == 0) {
      only = value();
    }
  }
  if (only != 0) {
    const Sample s = Draw(only);
    Report("model", only, s, Check(s)->report());
    return 0;
  }
  std::atomic<uint64_t> next = first;
  std::vector<std::thread> workers;
  for (uint64_t t = 0; t < std::max<uint64_t>(threads, 1); ++t) {
    workers.emplace_back([&] {
      for (uint64_t i = next++; i < first + models; i = next++)
        CheckModel(seed * 1'000'000'000 + i);
    });
  }
  for (std::thread& worker : workers) worker.join();
  const Totals& t = totals;
  if (bug) {
    std::printf("models on which the bug shows %lld, failed %lld, passed %lld\n",
                static_cast<long long>(t.bugs), static_cast<long long>(t.bugs_failed),
                static_cast<long long>(t.bugs_passed));
    return t.bugs_failed > 0 && t.bugs_passed == 0 ? 0 : 1;
  }
  std::printf("healthy models %lld (%lld more were not finite), false alarms %lld\n",
              static_cast<long long>(t.models), static_cast<long long>(t.unhealthy),
              static_cast<long long>(t.false_alarms));
  for (const int i : {1, 0}) {
    std::printf("scales within %s: tensors %lld, inconclusive %lld (%.3f %%)\n",
                i == 1 ? "1e-3 … 1e3" : "1e-6 … 1e6", static_cast<long long>(t.tensors[i]),
                static_cast<long long>(t.inconclusive[i]),
                Percent(t.inconclusive[i], t.tensors[i]));
  }
  std::printf(
      "entries %lld, set aside %lld, unresolved %lld; largest relative error %.2g; kernels "
      "at most %.2g of their bound\n",
      static_cast<long long>(t.entries), static_cast<long long>(t.set_aside),
      static_cast<long long>(t.unresolved), t.largest_error, t.largest_bound_ratio);
  std::printf("a tensor times 1.001: %lld, failed %lld, passed %lld; right after it %lld\n",
              static_cast<long long>(t.factors), static_cast<long long>(t.factors_failed),
              static_cast<long long>(t.factors_passed), static_cast<long long>(t.factors_right));
  std::printf("one wrong entry: %lld, failed %lld, passed %lld\n", static_cast<long long>(t.wrong),
              static_cast<long long>(t.wrong_failed), static_cast<long long>(t.wrong_passed));
  const bool good = t.models > 0 && t.false_alarms == 0 && t.factors_passed == 0 &&
                    t.wrong_passed == 0 && Percent(t.inconclusive[1], t.tensors[1]) <= 0.1;
  std::printf("%s\n", good ? "PASSED" : "FAILED");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace backprop::engine

int main(int argc, char** argv) { return backprop::engine::Main(argc, argv); }
