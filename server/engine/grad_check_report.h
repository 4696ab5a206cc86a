// Options and results of a gradient check.
#ifndef BACKPROP_SERVER_ENGINE_GRAD_CHECK_REPORT_H_
#define BACKPROP_SERVER_ENGINE_GRAD_CHECK_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/engine/network.h"

namespace backprop::engine {

struct GradCheckOptions {
  double tolerance = 1e-4;
  double kernel_tolerance = 1e-4;
  int64_t max_entries_per_tensor = 256;
  uint64_t seed = 0;
};

enum class Verdict { kPassed, kFailed, kInconclusive };

struct TensorGradCheck {
  TensorInfo tensor;
  Verdict verdict = Verdict::kPassed;
  std::string explanation;  // if not kPassed: the reason, and what to change
  int64_t checked = 0;
  int64_t set_aside = 0;  // not checked: a kink lies within the smallest step
  int64_t not_sampled = 0;
  int64_t unresolved =
      0;  // checked, but not decidable within the rounding error at these parameters
  double max_absolute_error = 0;
  double max_relative_error = 0;  // over entries that are proved or wrong
  int64_t worst = -1;  // index in the tensor of a wrong entry if there is one, else of the entry
                       // with the largest relative error; −1: no entry was checked
  double worst_analytic = 0;
  double worst_numeric = 0;
  double worst_error_bound = 0;
  // The training kernels' gradient compared with the float64 gradient: the largest difference in
  // excess of its bound, relative to the entry, and the largest ratio of a difference to its bound.
  double kernel_max_relative_error = 0;
  double kernel_max_bound_ratio = 0;
};

// The result for a model.
struct GradCheckReport {
  std::vector<TensorGradCheck> tensors;
  Verdict verdict = Verdict::kPassed;
  std::string explanation;
  bool sampled = false;
  double max_relative_error = 0;
  double loss = 0;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_GRAD_CHECK_REPORT_H_
