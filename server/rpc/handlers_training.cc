// Train, WatchTraining, StopTraining, Step.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/names.h"
#include "server/codec/training_codec.h"
#include "server/engine/workspace.h"
#include "server/exec/strand.h"
#include "server/records/response_records.h"
#include "server/records/run_events.h"
#include "server/rpc/handlers.h"
#include "server/rpc/overload.h"
#include "server/rpc/request_key.h"
#include "server/rpc/rows.h"
#include "server/session/errors.h"
#include "server/session/workspace_limit.h"

namespace backprop::rpc {
namespace {

// A Train call whose rows are being read. Holds copies because the request may be freed before they
// are read.
struct PendingTrain {
  Context* context;
  std::shared_ptr<TrainStream> stream;
  std::shared_ptr<session::Session> model;
  v1::TrainingConfig config;
  session::Session::TrainArgs args;
};

void TrainOnRows(const std::shared_ptr<PendingTrain>& train) {
  const bool has_validation = train->args.validation.rows != nullptr;
  const auto config =
      codec::DecodeTrainingConfig(train->config, train->args.data.rows->rows, has_validation);
  if (!config.ok()) return train->stream->Attach(config.status());
  const absl::Status fits = session::CheckWorkspace(train->model->network(), config->batch_size,
                                                    engine::PassKind::kForwardBackward,
                                                    "config.batch_size", train->context->limits());
  if (!fits.ok()) return train->stream->Attach(fits);
  train->args.config = *config;
  train->model->Train(std::move(train->args),
                      [stream = train->stream](absl::StatusOr<std::shared_ptr<session::Run>> run) {
                        stream->Attach(std::move(run));
                      });
}

void FetchValidation(const std::shared_ptr<PendingTrain>& train, const RowsAsked& validation) {
  GetRows(train->context, train->model, validation,
          [train](absl::StatusOr<session::RowsInUse> rows) {
            if (!rows.ok()) return train->stream->Attach(rows.status());
            train->args.validation = *std::move(rows);
            TrainOnRows(train);
          });
}

// Gets the rows for training, then those for validation unless the request has them, and starts.
void FetchRows(const std::shared_ptr<PendingTrain>& train, const RowsAsked& data,
               const RowsAsked& validation) {
  GetRows(train->context, train->model, data,
          [train, validation](absl::StatusOr<session::RowsInUse> rows) {
            if (!rows.ok()) return train->stream->Attach(rows.status());
            train->args.data = *std::move(rows);
            if (train->args.validation.rows != nullptr) return TrainOnRows(train);
            FetchValidation(train, validation);
          });
}

// Decodes rows for validation that are in the request, because it may be freed when the handler
// returns.
absl::Status DecodeValidation(const std::shared_ptr<PendingTrain>& train,
                              const RowsAsked& validation) {
  if (validation.batch == nullptr) return absl::OkStatus();
  absl::Status decoded;
  GetRows(train->context, train->model, validation, [&](absl::StatusOr<session::RowsInUse> rows) {
    decoded = rows.status();
    if (rows.ok()) train->args.validation = *std::move(rows);
  });
  return decoded;
}

}  // namespace

void HandleTrain(Context* context, const std::shared_ptr<TrainStream>& stream,
                 const ModelPtr& model, const v1::TrainRequest& request) {
  auto key = RequestKeyOf("Train", request.request_id(), request);
  if (!key.ok()) return stream->Attach(key.status());
  // The response to a retry does not need the rows.
  auto known = model->FindRunOf(*key);
  if (!known.ok()) return stream->Attach(known.status());
  if (*known != nullptr) {
    return model->WhenStored([stream, model, run = *known](const absl::Status& status) {
      if (!status.ok()) return stream->Attach(session::NotStored(model->name(), status));
      stream->Attach(run);
    });
  }
  auto memory = context->MemoryOfRequest(static_cast<int64_t>(request.ByteSizeLong()));
  if (!memory.ok()) return stream->Attach(memory.status());
  const auto train =
      std::make_shared<PendingTrain>(PendingTrain{context, stream, model, request.config(), {}});
  train->args.memory = *std::move(memory);
  train->args.wait = request.wait();
  // A run resumes after a restart if its caller can find it then: detached, or by request id.
  train->args.resumes = request.detach() || !request.request_id().empty();
  train->args.owned = !request.detach();
  train->args.key = *std::move(key);
  train->args.cancelled = [stream] { return stream->cancelled(); };
  const RowsAsked data{request.has_data() ? &request.data() : nullptr, request.dataset(), "data",
                       "dataset"};
  const RowsAsked validation{request.has_validation() ? &request.validation() : nullptr,
                             request.validation_dataset(), "validation", "validation_dataset",
                             false};
  const absl::Status decoded = DecodeValidation(train, validation);
  if (!decoded.ok()) return stream->Attach(decoded);
  FetchRows(train, data, validation);
}

void HandleWatchTraining(const std::shared_ptr<WatchStream>& stream, const ModelPtr& model,
                         const v1::WatchTrainingRequest& request) {
  const auto number = codec::ParseRunName(request.model(), request.run());
  if (!number.ok()) return stream->Attach(number.status());
  if (request.from_sequence() < 0) {
    return stream->Attach(base::FieldError(
        "from_sequence", absl::StrCat("must be at least 0, got ", request.from_sequence())));
  }
  stream->Attach(model->FindRun(*number));
}

void HandleStopTraining(Context*, UnaryCall* call, const ModelPtr& model,
                        const v1::StopTrainingRequest& request,
                        v1::StopTrainingResponse* response) {
  const auto number = codec::ParseRunName(request.model(), request.run());
  if (!number.ok()) return call->Done(number.status());
  const auto key = RequestKeyOf("StopTraining", request.request_id(), request);
  if (!key.ok()) return call->Done(key.status());
  model->StopTraining(*number, *key,
                      call->Answer([response](const std::shared_ptr<session::Run>& run) {
                        response->set_run(run->name());
                        // The run has ended, so OnFinish calls this before it returns.
                        run->OnFinish([&](const absl::StatusOr<records::RunSummary>& end) {
                          codec::EncodeSummary(*end, response->mutable_summary());
                        });
                      }));
}

absl::StatusOr<session::Session::StepArgs> DecodeStep(Context* context, const ModelPtr& model,
                                                      const v1::StepRequest& request) {
  session::Session::StepArgs args;
  auto key = RequestKeyOf("Step", request.request_id(), request);
  if (!key.ok()) return key.status();
  args.key = *std::move(key);
  auto batch = codec::DecodeBatch(request.batch(), "batch", model->network(), model->info(),
                                  context->limits());
  if (!batch.ok()) return batch.status();
  const absl::Status fits =
      session::CheckWorkspace(model->network(), batch->rows, engine::PassKind::kForwardBackward,
                              "batch.inputs", context->limits());
  if (!fits.ok()) return fits;
  const absl::Status allowed = ChargeRows(*context, *model, batch->rows);
  if (!allowed.ok()) return allowed;
  args.work = *std::move(batch);
  if (request.has_expected_step()) args.expected_step = request.expected_step();
  return args;
}

void HandleStep(Context* context, UnaryCall* call, const ModelPtr& model,
                const v1::StepRequest& request, v1::StepResponse* response) {
  const int64_t rows = RowsOf(request.batch().inputs(), model->network());
  if (!AdmitChange(context, call, model.get(), model->CostOfStep(rows))) return;
  auto args = DecodeStep(context, model, request);
  if (!args.ok()) return call->Done(args.status());
  args->cancelled = [call] { return call->cancelled(); };
  args->times = call->Decoded();
  args->wait = exec::Strand::Wait::kCounts;
  model->Step(*std::move(args),
              call->Answer([response, model](const records::StepOutcome& outcome) {
                codec::EncodeStep(outcome, model->network(), response);
              }));
}

}  // namespace backprop::rpc
