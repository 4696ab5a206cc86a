// Keeps the best epoch of a run, and detects when there was no better one for too long.
#ifndef BACKPROP_SERVER_SESSION_EARLY_STOPPER_H_
#define BACKPROP_SERVER_SESSION_EARLY_STOPPER_H_

#include <cstdint>
#include <limits>
#include <memory>

#include "server/engine/network.h"
#include "server/records/run_config.h"

namespace backprop::session {

// Thread-compatible.
class EarlyStopper {
 public:
  explicit EarlyStopper(const records::EarlyStopping& config) : config_(config) {}
  // Continues from the state of another early stopper.
  EarlyStopper(const records::EarlyStopping& config, double best_loss, int64_t best_iteration,
               int64_t bad_epochs, std::shared_ptr<const engine::State> best_state)
      : config_(config),
        best_loss_(best_loss),
        best_iteration_(best_iteration),
        bad_epochs_(bad_epochs),
        best_state_(std::move(best_state)) {}

  // Takes the loss and the state at the end of an epoch, after `iteration` steps. Returns whether
  // the stopper keeps the state, which then must not change.
  bool EndEpoch(double loss, int64_t iteration, std::shared_ptr<const engine::State> state) {
    if (!(loss < best_loss_ - config_.min_delta)) {  // NaN is no improvement
      ++bad_epochs_;
      return false;
    }
    bad_epochs_ = 0;
    best_loss_ = loss;
    best_iteration_ = iteration;
    if (!config_.restore_best) return false;
    best_state_ = std::move(state);
    return true;
  }

  bool should_stop() const { return bad_epochs_ >= config_.patience; }
  int64_t bad_epochs() const { return bad_epochs_; }
  int64_t best_iteration() const { return best_iteration_; }  // 0: there is none yet
  double best_loss() const { return best_iteration_ == 0 ? 0 : best_loss_; }
  // Null if it will not be restored or there is none yet.
  const std::shared_ptr<const engine::State>& best_state() const { return best_state_; }

 private:
  const records::EarlyStopping config_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  int64_t best_iteration_ = 0;
  int64_t bad_epochs_ = 0;
  std::shared_ptr<const engine::State> best_state_;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_EARLY_STOPPER_H_
