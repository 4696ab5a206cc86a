// Train, WatchTraining, StopTraining, Step.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/loss.h"
#include "server/rpc/batch_codec.h"
#include "server/rpc/handlers.h"
#include "server/rpc/names.h"
#include "server/rpc/training_codec.h"

namespace backprop::rpc {
namespace {

absl::StatusOr<session::Session::TrainArgs> DecodeTrain(const Context& context,
                                                        const session::Session& model,
                                                        const v1::TrainRequest& request) {
  auto key = KeyOf("Train", request.request_id(), request);
  if (!key.ok()) return key.status();
  auto data = DecodeBatch(request.data(), "data", model, context.limits());
  if (!data.ok()) return data.status();
  const auto config = DecodeTrainingConfig(request.config(), data->rows);
  if (!config.ok()) return config.status();
  const absl::Status fits =
      CheckWorkspace(model.network(), config->batch_size, engine::PassKind::kForwardBackward,
                     "config.batch_size", context.limits());
  if (!fits.ok()) return fits;
  session::Session::TrainArgs args;
  args.config = *config;
  args.data = std::make_shared<engine::Dataset>(*std::move(data));
  args.wait = request.wait();
  args.key = *std::move(key);
  return args;
}

}  // namespace

void HandleTrain(Context* context, const std::shared_ptr<TrainStream>& stream,
                 const v1::TrainRequest& request) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return stream->Attach(model.status());
  auto args = DecodeTrain(*context, **model, request);
  if (!args.ok()) return stream->Attach(args.status());
  args->cancelled = [stream] { return stream->cancelled(); };
  (*model)->Train(*std::move(args), [stream](absl::StatusOr<std::shared_ptr<session::Run>> run) {
    stream->Attach(std::move(run));
  });
}

void HandleWatchTraining(Context* context, const std::shared_ptr<WatchStream>& stream,
                         const v1::WatchTrainingRequest& request) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return stream->Attach(model.status());
  const auto number = ParseRunName(request.model(), request.run());
  if (!number.ok()) return stream->Attach(number.status());
  if (request.from_sequence() < 0) {
    return stream->Attach(session::FieldError(
        "from_sequence", absl::StrCat("must be at least 0, got ", request.from_sequence())));
  }
  stream->Attach((*model)->FindRun(*number));
}

void HandleStopTraining(Context* context, UnaryCall* call, const v1::StopTrainingRequest& request,
                        v1::StopTrainingResponse* response) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return call->Done(model.status());
  const auto number = ParseRunName(request.model(), request.run());
  if (!number.ok()) return call->Done(number.status());
  const auto key = KeyOf("StopTraining", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  (*model)->StopTraining(*number, *key,
                         [call, response](absl::StatusOr<std::shared_ptr<session::Run>> run) {
                           if (!run.ok()) return call->Done(run.status());
                           response->set_run((*run)->name());
                           // The run has ended: this is called at once.
                           (*run)->OnFinish([&](const session::RunSummary& summary) {
                             EncodeSummary(summary, response->mutable_summary());
                           });
                           call->Done(absl::OkStatus());
                         });
}

void HandleStep(Context* context, UnaryCall* call, const v1::StepRequest& request,
                v1::StepResponse* response) {
  const auto model = FindModel(context, "model", request.model());
  if (!model.ok()) return call->Done(model.status());
  auto key = KeyOf("Step", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  auto batch = DecodeBatch(request.batch(), "batch", **model, context->limits());
  if (!batch.ok()) return call->Done(batch.status());
  const engine::Network& network = (*model)->network();
  const absl::Status fits = CheckWorkspace(network, batch->rows, engine::PassKind::kForwardBackward,
                                           "batch.inputs", context->limits());
  if (!fits.ok()) return call->Done(fits);
  session::Session::StepArgs args;
  args.batch = *std::move(batch);
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  args.key = *std::move(key);
  args.cancelled = [call] { return call->cancelled(); };
  (*model)->Step(std::move(args), [call, response,
                                   model = *model](absl::StatusOr<session::StepOutcome> outcome) {
    if (!outcome.ok()) return call->Done(outcome.status());
    const engine::StepResult& result = outcome->result;
    const engine::NetworkSpec& spec = model->network().spec();
    response->set_step(outcome->step);
    v1::Metrics* metrics = response->mutable_metrics();
    metrics->set_loss(result.loss);
    metrics->set_rows(result.rows);
    if (engine::HasAccuracy(spec.loss)) {
      metrics->set_accuracy(static_cast<double>(result.correct) / static_cast<double>(result.rows));
    }
    response->set_gradient_norm(result.gradient_norm);
    response->set_learning_rate(spec.optimizer.learning_rate);
    call->Done(absl::OkStatus());
  });
}

}  // namespace backprop::rpc
