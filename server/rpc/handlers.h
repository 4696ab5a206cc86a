// The handlers of the RPCs: each decodes and checks the request, calls the session, encodes the
// result, and responds to its call exactly once, from any thread. The request and the response of a
// unary call live until then; the request of a streaming call may be freed as soon as the handler
// returns. Handlers do not block. Handlers that take a model are called when it is in memory.
// Thread-safe.
#ifndef BACKPROP_SERVER_RPC_HANDLERS_H_
#define BACKPROP_SERVER_RPC_HANDLERS_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "backprop/v1/training_service.pb.h"
#include "server/codec/names.h"
#include "server/records/project.h"
#include "server/registry/registry.h"
#include "server/rpc/call/caller.h"
#include "server/rpc/call/download_stream.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/call/upload_stream.h"
#include "server/rpc/context.h"
#include "server/rpc/run_stream.h"
#include "server/session/session.h"

namespace backprop::rpc {

using ModelPtr = registry::SessionPtr;

// handlers_models.cc
void HandleCreateModel(Context*, UnaryCall*, const v1::CreateModelRequest&,
                       v1::CreateModelResponse*);
void HandleGetModel(Context*, UnaryCall*, const ModelPtr&, const v1::GetModelRequest&,
                    v1::GetModelResponse*);
void HandleListModels(Context*, UnaryCall*, const v1::ListModelsRequest&, v1::ListModelsResponse*);
void HandleDeleteModel(Context*, UnaryCall*, const v1::DeleteModelRequest&,
                       v1::DeleteModelResponse*);

// Creates the model of `request` in a project, and describes it in `model`. `request` and `model`
// must live until `done` is called: once, from any thread. `method` is the name of the RPC; the
// detection of retries distinguishes methods.
void CreateFrom(Context* context, const std::string& project, const char* method,
                const v1::CreateModelRequest& request, session::IsCancelled cancelled,
                v1::Model* model, absl::AnyInvocable<void(const absl::Status&)> done);

// handlers_datasets.cc
std::unique_ptr<Receiver<v1::UploadDatasetRequest>> UploadInto(Context*, const CallerPtr&,
                                                               v1::UploadDatasetResponse*);
void HandleGetDataset(Context*, UnaryCall*, const v1::GetDatasetRequest&, v1::GetDatasetResponse*);
void HandleListDatasets(Context*, UnaryCall*, const v1::ListDatasetsRequest&,
                        v1::ListDatasetsResponse*);
void HandleDeleteDataset(Context*, UnaryCall*, const v1::DeleteDatasetRequest&,
                         v1::DeleteDatasetResponse*);

// handlers_files.cc
// INVALID_ARGUMENT for an unknown format; FAILED_PRECONDITION (NOT_FITTED) for ONNX.
absl::StatusOr<std::unique_ptr<ChunkSource>> ExportOf(const ModelPtr&, v1::ModelFileFormat);
std::unique_ptr<Receiver<v1::ImportModelRequest>> ImportInto(Context*, const CallerPtr&,
                                                             v1::ImportModelResponse*);

// handlers_training.cc
using TrainStream = RunStream<v1::TrainResponse>;
using WatchStream = RunStream<v1::WatchTrainingResponse>;
void HandleTrain(Context*, const std::shared_ptr<TrainStream>&, const ModelPtr&,
                 const v1::TrainRequest&);
void HandleWatchTraining(const std::shared_ptr<WatchStream>&, const ModelPtr&,
                         const v1::WatchTrainingRequest&);
void HandleStopTraining(Context*, UnaryCall*, const ModelPtr&, const v1::StopTrainingRequest&,
                        v1::StopTrainingResponse*);
void HandleStep(Context*, UnaryCall*, const ModelPtr&, const v1::StepRequest&, v1::StepResponse*);

// Decodes and checks a step. The caller must set `cancelled` of the result.
absl::StatusOr<session::Session::StepArgs> DecodeStep(Context* context, const ModelPtr& model,
                                                      const v1::StepRequest& request);

// handlers_gradients.cc
void HandleComputeGradients(Context*, UnaryCall*, const ModelPtr&,
                            const v1::ComputeGradientsRequest&, v1::ComputeGradientsResponse*);
void HandleApplyGradients(Context*, UnaryCall*, const ModelPtr&, const v1::ApplyGradientsRequest&,
                          v1::ApplyGradientsResponse*);

// handlers_predict.cc
void HandlePredict(Context*, UnaryCall*, const ModelPtr&, const v1::PredictRequest&,
                   v1::PredictResponse*);

// handlers_measuring.cc
void HandleEvaluate(Context*, UnaryCall*, const ModelPtr&, const v1::EvaluateRequest&,
                    v1::EvaluateResponse*);
void HandleGradCheck(Context*, UnaryCall*, const ModelPtr&, const v1::GradCheckRequest&,
                     v1::GradCheckResponse*);

// handlers_parameters.cc
void HandleGetParameters(Context*, UnaryCall*, const ModelPtr&, const v1::GetParametersRequest&,
                         v1::GetParametersResponse*);
void HandleSetParameters(Context*, UnaryCall*, const ModelPtr&, const v1::SetParametersRequest&,
                         v1::SetParametersResponse*);

// handlers_checkpoints.cc
void HandleCreateCheckpoint(Context*, UnaryCall*, const ModelPtr&,
                            const v1::CreateCheckpointRequest&, v1::CreateCheckpointResponse*);
void HandleListCheckpoints(Context*, UnaryCall*, const ModelPtr&, const v1::ListCheckpointsRequest&,
                           v1::ListCheckpointsResponse*);
void HandleRestoreCheckpoint(Context*, UnaryCall*, const v1::RestoreCheckpointRequest&,
                             v1::RestoreCheckpointResponse*);
void HandleDeleteCheckpoint(Context*, UnaryCall*, const v1::DeleteCheckpointRequest&,
                            v1::DeleteCheckpointResponse*);

// Counts rows of a request against the rate of the model's project: once they are decoded, so that
// their number is right, and before they are computed. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED).
inline absl::Status ChargeRows(const Context& context, const session::Session& model,
                               int64_t rows) {
  return context.Charge(model.project(), session::Rate::kRows, rows);
}

// Finds a model of the caller's project, and calls `then` with its session or an error
// (Registry::Find): before this returns if the model is in memory, otherwise from a thread that
// loads models.
template <class Then>
void FindModelById(Context* context, const Caller& caller, absl::string_view id, Then then) {
  const std::string scoped = records::ScopedId(caller.project, id);
  // Registry::Find would do the same, but only after `then` was converted into its type.
  if (auto resident = context->registry->FindResident(scoped)) return then(*std::move(resident));
  context->registry->Find(scoped, std::move(then));
}
// The same for a name, models/{id}. INVALID_ARGUMENT about `field` if it is not of this form.
template <class Then>
void FindModel(Context* context, const Caller& caller, absl::string_view field,
               absl::string_view name, Then then) {
  const auto id = codec::ParseModelName(field, name);
  if (!id.ok()) return then(registry::MaybeSession(id.status()));
  FindModelById(context, caller, *id, std::move(then));
}
// The same for a request that may be freed when this returns: `then` is called with the session and
// with the request or a copy of it. RESOURCE_EXHAUSTED if there is no memory for a copy.
template <class Request, class Then>
void FindModelOf(Context* context, const Caller& caller, const Request& request, Then then) {
  const auto id = codec::ParseModelName("model", request.model());
  if (!id.ok()) return then(registry::MaybeSession(id.status()), request);
  const std::string scoped = records::ScopedId(caller.project, *id);
  if (auto resident = context->registry->FindResident(scoped)) return then(*resident, request);
  auto memory = context->MemoryOfRequest(static_cast<int64_t>(request.ByteSizeLong()));
  if (!memory.ok()) return then(registry::MaybeSession(memory.status()), request);
  context->registry->Find(
      scoped, [then = std::move(then), copy = std::make_shared<Request>(request),
               memory = *std::move(memory)](const registry::MaybeSession& model) mutable {
        memory = {};  // the handler counts the request itself
        then(model, *copy);
      });
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_HANDLERS_H_
