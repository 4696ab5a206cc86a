// ComputeGradients, ApplyGradients: the two halves of a step.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/tensor_codec.h"
#include "server/codec/training_codec.h"
#include "server/engine/network.h"
#include "server/exec/strand.h"
#include "server/records/response_records.h"
#include "server/rpc/handlers.h"
#include "server/rpc/overload.h"
#include "server/rpc/request_key.h"
#include "server/session/queries.h"

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

absl::StatusOr<session::GradientsArgs> DecodeGradientsArgs(
    const Context& context, const session::Session& model,
    const v1::ComputeGradientsRequest& request, v1::TensorEncoding encoding) {
  auto batch =
      codec::DecodeBatch(request.batch(), "batch", model.network(), model.info(), context.limits());
  if (!batch.ok()) return batch.status();
  const absl::Status fits = codec::CheckParametersSize(
      model.network(), encoding, /*with_optimizer_state=*/false, context.limits());
  if (!fits.ok()) return fits;
  const absl::Status allowed = ChargeRows(context, model, batch->rows);
  if (!allowed.ok()) return allowed;
  return session::GradientsArgs{*std::move(batch), "batch.inputs", {}};
}

void EncodeComputed(const session::Gradients& gradients, const engine::Network& network,
                    v1::TensorEncoding encoding, v1::ComputeGradientsResponse* response) {
  codec::EncodeGradients(network, gradients.values(), encoding, response->mutable_gradients());
  codec::EncodeMetrics(gradients.metrics, response->mutable_metrics());
  response->set_gradient_norm(gradients.norm);
  response->set_weight(gradients.weight);
  response->set_step(gradients.step);
}

}  // namespace

void HandleComputeGradients(Context* context, UnaryCall* call, const ModelPtr& model,
                            const v1::ComputeGradientsRequest& request,
                            v1::ComputeGradientsResponse* response) {
  const int64_t rows = RowsOf(request.batch().inputs(), model->network());
  if (!AdmitQuery(context, call, *model, model->CostOfStep(rows), /*sliced=*/false)) return;
  const auto encoding = DecodeEncoding(request);
  if (!encoding.ok()) return call->Done(encoding.status());
  auto args = DecodeGradientsArgs(*context, *model, request, *encoding);
  if (!args.ok()) return call->Done(args.status());
  args->cancelled = [call] { return call->cancelled(); };
  args->times = call->Decoded();
  session::ComputeGradients(
      model, *std::move(args),
      [call, model, encoding = *encoding, response](absl::StatusOr<session::Gradients> gradients) {
        const absl::Status status = gradients.status();
        if (status.ok()) {
          // The memory of the pass is free before gRPC serializes the response.
          const session::Gradients computed = *std::move(gradients);
          EncodeComputed(computed, model->network(), encoding, response);
        }
        call->Done(status);
      });
}

void HandleApplyGradients(Context* context, UnaryCall* call, const ModelPtr& model,
                          const v1::ApplyGradientsRequest& request,
                          v1::ApplyGradientsResponse* response) {
  if (!AdmitChange(context, call, model.get(), model->CostOfApply())) return;
  auto key = RequestKeyOf("ApplyGradients", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  auto gradients = codec::DecodeGradients(request.gradients(), "gradients", model->network());
  if (!gradients.ok()) return call->Done(gradients.status());
  session::Session::StepArgs args;
  args.work = *std::move(gradients);
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  args.key = *std::move(key);
  args.cancelled = [call] { return call->cancelled(); };
  args.times = call->Decoded();
  args.wait = exec::Strand::Wait::kCounts;
  model->Step(std::move(args), call->Answer([response](const records::StepOutcome& outcome) {
    response->set_step(outcome.step);
    response->set_gradient_norm(outcome.result.gradient_norm);
    response->set_learning_rate(outcome.result.learning_rate);
  }));
}

}  // namespace backprop::rpc
