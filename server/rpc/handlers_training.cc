// Train, WatchTraining, StopTraining, Step.
#include <utility>

#include "absl/strings/str_cat.h"
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
  session::Session::TrainArgs args;
  if (request.has_validation()) {
    auto validation = DecodeBatch(request.validation(), "validation", model, context.limits());
    if (!validation.ok()) return validation.status();
    args.validation = std::make_shared<engine::Dataset>(*std::move(validation));
  }
  const auto config = DecodeTrainingConfig(request.config(), data->rows, request.has_validation());
  if (!config.ok()) return config.status();
  const absl::Status fits =
      CheckWorkspace(model.network(), config->batch_size, engine::PassKind::kForwardBackward,
                     "config.batch_size", context.limits());
  if (!fits.ok()) return fits;
  args.config = *config;
  args.data = std::make_shared<engine::Dataset>(*std::move(data));
  args.wait = request.wait();
  // Who will ask again finds the run, also after a restart.
  args.resumes = request.detach() || !request.request_id().empty();
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
                           (*run)->OnFinish([&](const absl::StatusOr<session::RunSummary>& end) {
                             EncodeSummary(*end, response->mutable_summary());
                           });
                           call->Done(absl::OkStatus());
                         });
}

absl::StatusOr<StepWork> DecodeStep(Context* context, const v1::StepRequest& request,
                                    const std::string& model_name) {
  StepWork work;
  auto model = FindModel(context, "model", model_name);
  if (!model.ok()) return model.status();
  work.model = *std::move(model);
  auto key = KeyOf("Step", request.request_id(), request);
  if (!key.ok()) return key.status();
  work.args.key = *std::move(key);
  auto batch = DecodeBatch(request.batch(), "batch", *work.model, context->limits());
  if (!batch.ok()) return batch.status();
  const absl::Status fits =
      CheckWorkspace(work.model->network(), batch->rows, engine::PassKind::kForwardBackward,
                     "batch.inputs", context->limits());
  if (!fits.ok()) return fits;
  work.args.work = *std::move(batch);
  if (request.has_expected_step()) work.args.expected_step = request.expected_step();
  return work;
}

void HandleStep(Context* context, UnaryCall* call, const v1::StepRequest& request,
                v1::StepResponse* response) {
  auto work = DecodeStep(context, request, request.model());
  if (!work.ok()) return call->Done(work.status());
  work->args.cancelled = [call] { return call->cancelled(); };
  const auto model = work->model;
  model->Step(std::move(work->args),
              [call, response, model](const absl::StatusOr<session::StepOutcome>& outcome) {
                if (!outcome.ok()) return call->Done(outcome.status());
                EncodeStep(*outcome, model->network(), response);
                call->Done(absl::OkStatus());
              });
}

}  // namespace backprop::rpc
