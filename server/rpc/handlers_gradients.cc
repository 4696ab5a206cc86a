// ComputeGradients, ApplyGradients: the two halves of a step.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/tensor_codec.h"
#include "server/codec/training_codec.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/records/metrics.h"
#include "server/records/response_records.h"
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

// What a request of ComputeGradients asks for.
struct GradientsAsked {
  std::shared_ptr<session::Session> model;
  session::Session::StatePtr state;
  engine::Dataset batch;
  v1::TensorEncoding encoding;
};

absl::StatusOr<GradientsAsked> DecodeAsked(const Context& context,
                                           std::shared_ptr<session::Session> model,
                                           const v1::ComputeGradientsRequest& request) {
  const engine::Network& network = model->network();
  const auto encoding = DecodeEncoding(request);
  if (!encoding.ok()) return encoding.status();
  auto batch =
      codec::DecodeBatch(request.batch(), "batch", network, model->info(), context.limits());
  if (!batch.ok()) return batch.status();
  absl::Status fits = codec::CheckWorkspace(
      network, batch->rows, engine::PassKind::kForwardBackward, "batch.inputs", context.limits());
  if (!fits.ok()) return fits;
  fits = codec::CheckParametersSize(network, *encoding, /*with_optimizer_state=*/false,
                                    context.limits());
  if (!fits.ok()) return fits;
  auto state = model->ReadFitted();
  if (!state.ok()) return state.status();
  return GradientsAsked{std::move(model), *std::move(state), *std::move(batch), *encoding};
}

// Computes the gradients and encodes them.
absl::Status ComputeInto(const GradientsAsked& asked, v1::ComputeGradientsResponse* response) {
  const auto& model = asked.model;
  engine::Workspace workspace;
  const engine::StepResult result =
      engine::ComputeGradients(model->network(), *asked.state, asked.batch.All(), &workspace);
  if (result.not_finite != engine::NotFinite::kNothing) {
    return session::NotFiniteError(result.not_finite);
  }
  codec::EncodeGradients(model->network(), workspace.gradient_bytes(), asked.encoding,
                         response->mutable_gradients());
  codec::EncodeMetrics(records::MetricsOf(model->network(), result.loss, result.rows),
                       response->mutable_metrics());
  response->set_gradient_norm(result.gradient_norm);
  response->set_weight(result.loss.weight);
  response->set_step(asked.state->step);
  return absl::OkStatus();
}

}  // namespace

void HandleComputeGradients(Context* context, UnaryCall* call, const ModelPtr& model,
                            const v1::ComputeGradientsRequest& request,
                            v1::ComputeGradientsResponse* response) {
  auto asked = DecodeAsked(*context, model, request);
  if (!asked.ok()) return call->Done(asked.status());
  const int64_t cost = 3 * engine::ForwardCost(asked->model->network(), asked->batch.rows);
  context->environment->pool->RunOrPost(cost, [call, response, asked = *std::move(asked)] {
    call->Done(call->cancelled() ? base::CallerGone() : ComputeInto(asked, response));
  });
}

void HandleApplyGradients(Context*, UnaryCall* call, const ModelPtr& model,
                          const v1::ApplyGradientsRequest& request,
                          v1::ApplyGradientsResponse* response) {
  auto key = RequestKeyOf("ApplyGradients", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  auto gradients = codec::DecodeGradients(request.gradients(), "gradients", model->network());
  if (!gradients.ok()) return call->Done(gradients.status());
  session::Session::StepArgs args;
  args.work = *std::move(gradients);
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  args.key = *std::move(key);
  args.cancelled = [call] { return call->cancelled(); };
  model->Step(std::move(args), call->Answer([response](const records::StepOutcome& outcome) {
    response->set_step(outcome.step);
    response->set_gradient_norm(outcome.result.gradient_norm);
    response->set_learning_rate(outcome.result.learning_rate);
  }));
}

}  // namespace backprop::rpc
