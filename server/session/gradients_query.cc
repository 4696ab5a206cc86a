#include <memory>
#include <utility>

#include "server/base/status.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/records/metrics.h"
#include "server/session/environment.h"
#include "server/session/errors.h"
#include "server/session/queries.h"
#include "server/session/workspace_limit.h"

namespace backprop::session {
namespace {

absl::StatusOr<Gradients> Compute(const engine::Network& network, const engine::State& state,
                                  const engine::Dataset& batch) {
  Gradients gradients;
  const engine::StepResult result =
      engine::ComputeGradients(network, state, batch.All(), &gradients.workspace);
  if (result.not_finite != engine::NotFinite::kNothing) return NotFiniteError(result.not_finite);
  gradients.metrics = records::MetricsOf(network, result.loss, result.rows);
  gradients.norm = result.gradient_norm;
  gradients.weight = result.loss.weight;
  gradients.step = state.step;
  return gradients;
}

}  // namespace

void ComputeGradients(const std::shared_ptr<Session>& model, GradientsArgs args,
                      Callback<Gradients> done) {
  const engine::Network& network = model->network();
  const absl::Status fits =
      CheckWorkspace(network, args.batch.rows, engine::PassKind::kForwardBackward, args.field,
                     model->environment()->limits);
  if (!fits.ok()) return done(fits);
  auto state = model->ReadFitted();
  if (!state.ok()) return done(state.status());
  const int64_t cost = 3 * engine::ForwardCost(network, args.batch.rows);
  model->share()->RunOrPost(cost, [model, state = *std::move(state), args = std::move(args),
                                   done = std::move(done)]() mutable {
    base::EndOf(base::CallStage::kQueue, args.times);
    if (args.cancelled()) return done(base::CallerGone());
    auto gradients = Compute(model->network(), *state, args.batch);
    base::EndOf(base::CallStage::kCompute, args.times);
    done(std::move(gradients));
  });
}

}  // namespace backprop::session
