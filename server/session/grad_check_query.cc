#include <memory>
#include <utility>

#include "server/base/status.h"
#include "server/engine/grad_check.h"
#include "server/exec/compute_pool.h"
#include "server/exec/sliced_work.h"
#include "server/session/environment.h"
#include "server/session/queries.h"
#include "server/session/workspace_limit.h"

namespace backprop::session {
namespace {

class GradCheckWork {
 public:
  // Makes two passes with gradients. Copies what it needs of the state and the batch.
  GradCheckWork(std::shared_ptr<Session> model, const engine::State& state,
                const GradCheckArgs& args, IsCancelled cancelled, Callback<GradCheckOutcome> done)
      : model_(std::move(model)),
        step_(state.step),
        cancelled_(std::move(cancelled)),
        times_(args.times),
        done_(std::move(done)),
        checker_(model_->network(), state, args.batch, args.options) {}

  bool cancelled() const { return cancelled_(); }
  bool Advance() { return checker_.Advance(1); }

  void Finish(const absl::Status& status) {
    base::EndOf(base::CallStage::kCompute, times_);
    if (!status.ok()) return done_(status);
    done_(GradCheckOutcome{checker_.report(), step_});
  }

 private:
  const std::shared_ptr<Session> model_;
  const int64_t step_;
  const IsCancelled cancelled_;
  base::CallTimes* const times_;
  Callback<GradCheckOutcome> done_;
  engine::GradChecker checker_;
};

}  // namespace

void GradCheck(const std::shared_ptr<Session>& model, GradCheckArgs args,
               Callback<GradCheckOutcome> done) {
  const absl::Status fits =
      CheckMemory(engine::GradChecker::BytesNeeded(model->network(), args.batch.rows),
                  "a gradient check", args.batch.rows, args.field, model->environment()->limits);
  if (!fits.ok()) return done(fits);
  auto state = model->ReadFitted();
  if (!state.ok()) return done(state.status());
  exec::ComputePool::Share* const share = model->share();
  share->Post(exec::Priority::kInteractive,
              [share, model, state = *std::move(state), args = std::move(args),
               done = std::move(done)]() mutable {
                base::EndOf(base::CallStage::kQueue, args.times);
                if (args.cancelled()) return done(base::CallerGone());
                auto work = std::make_shared<GradCheckWork>(
                    model, *state, args, std::move(args.cancelled), std::move(done));
                exec::ContinueSliced(share, std::move(work));
              });
}

}  // namespace backprop::session
