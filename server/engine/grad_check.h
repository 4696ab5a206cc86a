// Proves gradients by central finite differences in float64.
//
// For an entry p of the parameters, h = epsilon·max(1, |p|) and
//   numeric = (L(p + h) − L(p − h)) / 2h,
//   error   = |analytic − numeric| / max(|analytic|, |numeric|, floor).
// The floor, 1e-4·max(1, |L|), keeps the rounding of L, about 1e-16·|L|/h, out of the verdict.
#ifndef BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_
#define BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/network.h"
#include "server/engine/pass.h"
#include "server/engine/workspace.h"

namespace backprop::engine {

struct GradCheckOptions {
  double epsilon = 1e-6;
  double tolerance = 1e-4;
  double kernel_tolerance = 1e-3;
  int64_t max_entries_per_tensor = 256;
  uint64_t seed = 0;
};

struct TensorGradCheck {
  TensorInfo tensor;
  int64_t checked = 0;
  int64_t set_aside = 0;  // a kink lies between p − h and p + h
  int64_t not_sampled = 0;
  double max_absolute_error = 0;
  double max_relative_error = 0;
  int64_t worst = -1;  // index in the tensor of the largest relative error; −1: none checked
  double worst_analytic = 0;
  double worst_numeric = 0;
  double kernel_max_relative_error = 0;
  bool passed = true;
};

struct GradCheckReport {
  std::vector<TensorGradCheck> tensors;
  bool passed = true;
  bool sampled = false;
  double max_relative_error = 0;
  double loss = 0;
  double floor = 0;
  int64_t kernel_rows_set_aside = 0;
};

// A check in progress. Works on copies; never changes a model. Thread-compatible.
class GradChecker {
 public:
  // Checks `state` of `network` on `batch`, both in the network's own precision.
  GradChecker(const Network& network, const State& state, const Dataset& batch,
              const GradCheckOptions& options);

  // Checks up to `entries` more entries; false when all are done.
  bool Advance(int64_t entries);

  // After Advance has returned false.
  const GradCheckReport& report() const { return report_; }

 private:
  void ComputeAnalytic();
  void CompareKernels(const Network& network, const State& state, const Dataset& batch);
  void ChooseEntries();
  void CheckEntry(TensorGradCheck* tensor, int64_t index);
  double LossAt(int64_t parameter, double value, std::vector<bool>* sides);
  void Conclude();

  Model<double> Exact() const { return {network_, parameters_.data(), standardization_.get()}; }

  GradCheckOptions options_;
  Network network_;  // the same network in float64
  std::shared_ptr<const Standardization> standardization_;
  std::vector<double> parameters_;  // float64
  Dataset batch_;                   // float64
  Workspace workspace_;
  std::vector<double> analytic_;
  std::vector<bool> sides_plus_;
  std::vector<bool> sides_minus_;
  std::vector<std::vector<int64_t>> entries_;  // chosen, per tensor
  size_t tensor_ = 0;                          // the next to check
  size_t entry_ = 0;
  GradCheckReport report_;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_
