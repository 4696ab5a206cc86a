// Proves gradients by finite differences, with bounds on every error that takes part.
//
// An entry's analytic gradient g comes from the engine in float64. Its numeric one is the central
// difference d = (L(p + δ) − L(p − δ)) / 2δ of a loss that is evaluated in about 104 bits
// (exact_pass.h), with a step δ of its own and an estimate of the error of d. rounding_bound.h
// bounds the error of g. Then
//   |g − d| > tolerance·max(|g|, |d|) + bound + estimate    the entry is wrong;
//   |g − d| + estimate ≤ tolerance·max(|g|, |d|)            it is proved;
//   g = 0 and |d| ≤ estimate                                it is proved to be 0;
//   |g − d| + estimate ≤ tolerance·(largest proved |d|)     it is proved to be negligible;
//   else                                                    it is lost in rounding: unresolved.
// A tensor with a wrong entry FAILED, one without any that could be checked is INCONCLUSIVE. One
// with an unresolved entry is checked once more on a copy of the model whose layers are scaled
// down, with rows weighted anew, so that units are not saturated, rows do not cancel, and the loss
// is not at its minimum: if it is proved there it PASSED, else it is INCONCLUSIVE. docs/numerics.md
// derives step, estimate and bound.
#ifndef BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_
#define BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/engine/buffer.h"
#include "server/engine/data.h"
#include "server/engine/grad_check_point.h"
#include "server/engine/grad_check_report.h"
#include "server/engine/network.h"

namespace backprop::engine {

// A check in progress. Works on copies; never changes a model. Thread-compatible.
class GradChecker {
 public:
  // Checks `state` of `network` on `batch`, both in the network's own precision.
  GradChecker(const Network& network, const State& state, const Dataset& batch,
              const GradCheckOptions& options);

  // Bytes that a check of a batch of so many rows needs, the batch apart.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Does a part of the work that costs about as much as `entries` differences, at least one; false
  // when all is done.
  bool Advance(int64_t entries);

  // What follows is for after Advance has returned false.
  GradCheckReport report() const { return Judge(nullptr); }
  // What the report would be if backward had the bug `tamper`.
  GradCheckReport Judge(const Tamper& tamper) const;
  // The check of the model as it is.
  const GradCheckPoint& point() const { return *point_; }

 private:
  void ChooseEntries();
  // Begins the check on the scaled copy where some tensors need it.
  bool BeginScaled();

  const GradCheckOptions options_;
  const Network own_;    // the model's network
  const Network exact_;  // the same in float64
  const std::shared_ptr<const Standardization> standardization_;
  Buffer values_;        // (P)
  Dataset own_batch_;    // in the model's precision; reweighted once point_ is done
  const Dataset batch_;  // float64
  std::vector<std::vector<int64_t>> entries_;  // chosen, per tensor
  std::unique_ptr<GradCheckPoint> point_;
  bool point_done_ = false;
  std::vector<bool> again_;                 // per tensor: checked on the scaled copy
  Dataset reweighted_;                      // own_batch_ in float64 then
  std::unique_ptr<GradCheckPoint> scaled_;  // null: no tensor needs it
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_
