#include "server/exec/lent_threads.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "server/base/mutex.h"

namespace backprop::exec {
namespace {

// One call of For. Helpers share its ownership: a helper may start after the caller has returned.
// It then finds no part left and does not use the caller's task.
class Round {
 public:
  Round(int64_t parts, engine::PartTask task) : parts_(parts), task_(task) {}

  // Computes parts until none is left.
  void Help() {
    for (int64_t part = next_.fetch_add(1); part < parts_; part = next_.fetch_add(1)) {
      LetOthersRun();
      task_(part);
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 < parts_) continue;
      const base::MutexLock lock(&mu_);
      all_done_ = true;
      changed_.NotifyAll();
    }
  }

  void WaitUntilDone() {
    const base::MutexLock lock(&mu_);
    changed_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return all_done_; });
  }

 private:
  const int64_t parts_;
  const engine::PartTask task_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
  base::Mutex mu_;
  base::CondVar changed_;
  bool all_done_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

void LentThreads::For(int64_t parts, engine::PartTask task) {
  const int64_t helpers = std::min<int64_t>(parts - 1, pool_->idle());
  if (helpers <= 0) {
    for (int64_t part = 0; part < parts; ++part) {
      task(part);
      Pause();
    }
    return;
  }
  const auto round = std::make_shared<Round>(parts, task);
  for (int64_t i = 0; i < helpers; ++i) {
    pool_->Post(Priority::kInteractive, [round] { round->Help(); });
  }
  round->Help();
  round->WaitUntilDone();
}

}  // namespace backprop::exec
