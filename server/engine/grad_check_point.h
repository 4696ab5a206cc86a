// A gradient check at one point: one set of parameters and one batch.
#ifndef BACKPROP_SERVER_ENGINE_GRAD_CHECK_POINT_H_
#define BACKPROP_SERVER_ENGINE_GRAD_CHECK_POINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/exact_pass.h"
#include "server/engine/grad_check_report.h"
#include "server/engine/network.h"
#include "server/engine/rounding_bound.h"

namespace backprop::engine {

// A derivative by finite differences.
struct Difference {
  double value = 0;
  double error = 0;        // estimate of |value − derivative|
  bool set_aside = false;  // a kink lies within every step tried
};

// Returns dL/dp of entry `index` of a layer's tensor. The step is reduced while a kink is near or
// the error is large, until the error is below 1e-3·tolerance·|value| or no longer falls.
Difference Differentiate(ExactPass* pass, const TensorInfo& tensor, size_t layer, int64_t index,
                         double tolerance);

// Changes a gradient (P) as a bug in the backward pass would. For tests.
using Tamper = std::function<void(std::vector<double>*)>;

// Thread-compatible. Refers to the networks and the batches, which must outlive it.
class GradCheckPoint {
 public:
  // `own`, `values` (P) and `own_batch` are the model's network, parameters and batch in its own
  // precision; `exact` and `batch` are the same in float64. `entries` lists the indices to check in
  // each tensor.
  GradCheckPoint(const Network& own, const Network& exact, const Buffer& values,
                 std::shared_ptr<const Standardization> standardization, const Dataset& own_batch,
                 const Dataset& batch, const GradCheckOptions& options,
                 const std::vector<std::vector<int64_t>>& entries);

  // Bytes of memory that the check of a batch of `rows` rows needs, not counting the batch.
  static int64_t BytesNeeded(const Network& exact, int64_t rows);

  // Like GradChecker::Advance().
  bool Advance(int64_t entries);

  // The functions below require that Advance() has returned false.
  double loss() const { return pass_->loss(); }
  // The gradient in float64 (P), and the bound on its rounding error (P).
  const std::vector<double>& analytic() const { return analytic_; }
  const std::vector<double>& rounding() const { return bound_->gradient(); }
  // Whether a backward pass modified the parameters, which it must only read.
  bool parameters_changed() const { return parameters_changed_; }
  // The report on a tensor, with the gradient changed by `tamper` unless that is null.
  TensorGradCheck Judge(size_t tensor, const Tamper& tamper) const;

 private:
  struct Entry {
    int64_t index;  // in its tensor
    Difference numeric;
  };
  bool Prepare(int64_t rows);
  void CompareKernels(const std::vector<double>& analytic, const std::vector<double>& own,
                      TensorGradCheck* check) const;
  double LargestProved(size_t tensor, const std::vector<double>& analytic) const;
  void CompareDifferences(size_t tensor, const std::vector<double>& analytic,
                          TensorGradCheck* check) const;

  const GradCheckOptions options_;
  const std::shared_ptr<const Standardization> standardization_;
  const std::vector<TensorInfo> tensors_;
  std::vector<double> parameters_;   // float64
  std::vector<double> analytic_;     // float64
  std::vector<double> own_;          // from the training kernels
  bool parameters_changed_ = false;  // by a backward pass
  std::unique_ptr<ExactPass> pass_;
  std::optional<RoundingBound> bound_;      // for float64
  std::optional<RoundingBound> own_bound_;  // for float32; float32 models only
  int64_t bounded_ = 0;                     // rows added to the bounds
  bool prepared_ = false;
  std::vector<std::vector<Entry>> entries_;  // per tensor
  size_t tensor_ = 0;                        // the next tensor to check
  size_t entry_ = 0;
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_GRAD_CHECK_POINT_H_
