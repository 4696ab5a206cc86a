// Proves gradients by finite differences, with bounds on every error involved.
//
// The analytic gradient g of an entry is computed by the engine in float64. The numeric gradient is
// the central difference d = (L(p + δ) − L(p − δ)) / 2δ of a loss evaluated in about 104 bits
// (exact_pass.h), with a step δ chosen for the entry and an estimate of the error of d.
// rounding_bound.h bounds the error of g. The entry is then classified:
//   |g − d| > tolerance·max(|g|, |d|) + bound + estimate    the entry is wrong;
//   |g − d| + estimate ≤ tolerance·max(|g|, |d|)            it is proved;
//   g = 0 and |d| ≤ estimate                                it is proved to be 0;
//   |g − d| + estimate ≤ tolerance·(largest proved |d|)     it is proved to be negligible;
//   else                                                    it is lost in rounding: unresolved.
// A tensor with a wrong entry is FAILED; a tensor without an entry that could be checked is
// INCONCLUSIVE. A tensor with an unresolved entry is checked again on a copy of the model whose
// layers are scaled down and with other row weights, so that units are not saturated, rows do not
// cancel and the loss is not at its minimum. If all entries are proved there, the tensor is PASSED,
// otherwise INCONCLUSIVE. docs/numerics.md derives the step, the estimate and the bound.
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

// A gradient check in progress. Works on copies and never changes a model. Thread-compatible.
class GradChecker {
 public:
  // Checks `state` of `network` on `batch`; both are in the network's precision and are copied.
  GradChecker(const Network& network, const State& state, const Dataset& batch,
              const GradCheckOptions& options);

  // Bytes of memory that the check of a batch of `rows` rows needs, not counting the batch.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Does part of the work, about as much as `entries` differences and at least one. Returns false
  // when the check is complete.
  bool Advance(int64_t entries);

  // The functions below require that Advance() has returned false.
  GradCheckReport report() const { return Judge(nullptr); }
  // The report that a backward pass with the bug `tamper` would give.
  GradCheckReport Judge(const Tamper& tamper) const;
  // The check of the unscaled model.
  const GradCheckPoint& point() const { return *point_; }

 private:
  void ChooseEntries();
  // Starts the check on the scaled copy; returns false if no tensor needs it.
  bool BeginScaled();

  const GradCheckOptions options_;
  const Network own_;    // the model's network
  const Network exact_;  // the same in float64
  const std::shared_ptr<const Standardization> standardization_;
  Buffer values_;        // (P)
  Dataset own_batch_;    // in the model's precision; reweighted once point_ is done
  const Dataset batch_;  // float64
  std::vector<std::vector<int64_t>> entries_;  // indices of the chosen entries, per tensor
  std::unique_ptr<GradCheckPoint> point_;
  bool point_done_ = false;
  std::vector<bool> again_;                 // per tensor: checked on the scaled copy
  Dataset reweighted_;                      // own_batch_ in float64, reweighted
  std::unique_ptr<GradCheckPoint> scaled_;  // null: no tensor needs it
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_GRAD_CHECK_H_
