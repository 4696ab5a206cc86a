// ComputeGradients, ApplyGradients: the two halves of a step.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/tensor_codec.h"
#include "server/codec/training_codec.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/records/response_records.h"
#include "server/records/metrics.h"
#include "server/rpc/handlers.h"
#include "server/session/errors.h"

namespace backprop::rpc {
namespace {

// The encoding of the reply's tensors: as requested, or like the inputs. INVALID_ARGUMENT if it is
// unknown.
absl::StatusOr<v1::TensorEncoding> DecodeEncoding(const v1::ComputeGradientsRequest& request) {
  const absl::Status status = codec::CheckEncoding(request.encoding());
  if (!status.ok()) return status;
  if (request.encoding() != v1::TENSOR_ENCODING_UNSPECIFIED) return request.encoding();
  return codec::EncodingOf(request.batch().inputs());
}

}  // namespace

void HandleComputeGradients(Context* context, UnaryCall* call,
                            const v1::ComputeGradientsRequest& request,
                            v1::ComputeGradientsResponse* response) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return call->Done(model.status());
  const engine::Network& network = (*model)->network();
  const auto encoding = DecodeEncoding(request);
  if (!encoding.ok()) return call->Done(encoding.status());
  auto batch = codec::DecodeBatch(request.batch(), "batch", (*model)->network(), (*model)->info(),
                                  context->limits());
  if (!batch.ok()) return call->Done(batch.status());
  absl::Status fits = codec::CheckWorkspace(
      network, batch->rows, engine::PassKind::kForwardBackward, "batch.inputs", context->limits());
  if (fits.ok()) {
    fits = codec::CheckParametersSize(network, *encoding, /*with_optimizer_state=*/false,
                                      context->limits());
  }
  if (!fits.ok()) return call->Done(fits);
  auto state = (*model)->ReadFitted();
  if (!state.ok()) return call->Done(state.status());
  const int64_t cost = 3 * engine::ForwardCost(network, batch->rows);
  auto compute = [call, response, model = *model, state = *std::move(state), encoding = *encoding,
                  batch = *std::move(batch)] {
    if (call->cancelled()) return call->Done(base::CallerGone());
    engine::Workspace workspace;
    const engine::StepResult result =
        engine::ComputeGradients(model->network(), *state, batch.All(), &workspace);
    if (result.not_finite != engine::NotFinite::kNothing) {
      return call->Done(session::NotFiniteError(result.not_finite));
    }
    codec::EncodeGradients(model->network(), workspace.gradient_bytes(), encoding,
                           response->mutable_gradients());
    codec::EncodeMetrics(records::MetricsOf(model->network(), result.loss, result.rows),
                         response->mutable_metrics());
    response->set_gradient_norm(result.gradient_norm);
    response->set_weight(result.loss.weight);
    response->set_step(state->step);
    call->Done(absl::OkStatus());
  };
  context->environment->pool->RunOrPost(cost, std::move(compute));
}

void HandleApplyGradients(Context* context, UnaryCall* call,
                          const v1::ApplyGradientsRequest& request,
                          v1::ApplyGradientsResponse* response) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return call->Done(model.status());
  auto key = RequestKeyOf("ApplyGradients", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  auto gradients = codec::DecodeGradients(request.gradients(), "gradients", (*model)->network());
  if (!gradients.ok()) return call->Done(gradients.status());
  session::Session::StepArgs args;
  args.work = *std::move(gradients);
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  args.key = *std::move(key);
  args.cancelled = [call] { return call->cancelled(); };
  (*model)->Step(std::move(args),
                 [call, response](const absl::StatusOr<records::StepOutcome>& outcome) {
                   if (!outcome.ok()) return call->Done(outcome.status());
                   response->set_step(outcome->step);
                   response->set_gradient_norm(outcome->result.gradient_norm);
                   response->set_learning_rate(outcome->result.learning_rate);
                   call->Done(absl::OkStatus());
                 });
}

}  // namespace backprop::rpc
