#include "server/rpc/training_service.h"

#include <string>

#include "server/rpc/handlers.h"
#include "server/rpc/step_stream.h"
#include "server/session/session.h"

namespace backprop::rpc {
namespace {

grpc::ServerWriteReactor<v1::TrainResponse>* StartTrain(Context* context, const CallInfo& info,
                                                        const v1::TrainRequest& request,
                                                        const absl::Status& parsed) {
  const auto ownership =
      request.detach() ? TrainStream::Ownership::kWatches : TrainStream::Ownership::kOwns;
  const auto stream = TrainStream::Make(info, request.model(), ownership, 1);
  if (!parsed.ok()) {
    stream->Attach(parsed);
    return stream.get();
  }
  FindModelOf(context, *info.caller, request,
              [context, stream](const registry::MaybeSession& model, const v1::TrainRequest& kept) {
                if (!model.ok()) return stream->Attach(model.status());
                HandleTrain(context, stream, *model, kept);
              });
  return stream.get();
}

grpc::ServerWriteReactor<v1::WatchTrainingResponse>* StartWatch(
    Context* context, const CallInfo& info, const v1::WatchTrainingRequest& request,
    const absl::Status& parsed) {
  const auto stream = WatchStream::Make(info, request.model(), WatchStream::Ownership::kWatches,
                                        request.from_sequence());
  if (!parsed.ok()) {
    stream->Attach(parsed);
    return stream.get();
  }
  FindModelOf(context, *info.caller, request,
              [stream](const registry::MaybeSession& model, const v1::WatchTrainingRequest& kept) {
                if (!model.ok()) return stream->Attach(model.status());
                HandleWatchTraining(stream, *model, kept);
              });
  return stream.get();
}

grpc::ServerWriteReactor<v1::ExportModelResponse>* StartExport(
    Context* context, const CallInfo& info, const v1::ExportModelRequest& request,
    const absl::Status& parsed) {
  const auto stream = DownloadStream<v1::ExportModelResponse>::Make(info, request.model(),
                                                                    context->environment->pool);
  if (!parsed.ok()) {
    stream->Attach(parsed);
    return stream.get();
  }
  FindModel(context, *info.caller, "model", request.model(),
            [stream, context, format = request.format()](const registry::MaybeSession& model) {
              if (!model.ok()) return stream->Attach(model.status());
              stream->Attach(CountedSource::Of(ExportOf(*model, format), (*model)->StateBytes(),
                                               &context->sending));
            });
  return stream.get();
}

grpc::ServerReadReactor<Incoming<v1::ImportModelRequest>>* StartImport(
    Context* context, const CallInfo& info, v1::ImportModelResponse* response) {
  return UploadStream<v1::ImportModelRequest>::Start(info,
                                                     ImportInto(context, info.caller, response));
}

grpc::ServerReadReactor<Incoming<v1::UploadDatasetRequest>>* StartUpload(
    Context* context, const CallInfo& info, v1::UploadDatasetResponse* response) {
  return UploadStream<v1::UploadDatasetRequest>::Start(info,
                                                       UploadInto(context, info.caller, response));
}

grpc::ServerBidiReactor<Incoming<v1::StepStreamRequest>, v1::StepStreamResponse>* StartSteps(
    Context* context, const CallInfo& info) {
  return StepStream::Start(context, info);
}

}  // namespace

template <class Request, class Response>
void TrainingService::OfModel(const char* method,
                              void (*handler)(Context*, UnaryCall*, const registry::SessionPtr&,
                                              const Request&, Response*),
                              const std::string& (Request::*name)() const, const char* field) {
  const auto find = [handler, name, field](Context* context, UnaryCall* call,
                                           const Request& request, Response* response) {
    FindModel(context, call->caller(), field, (request.*name)(),
              [=, &request](const registry::MaybeSession& model) {
                if (!model.ok()) return call->Done(model.status());
                handler(context, call, *model, request, response);
              });
  };
  UnaryWith<Request, Response>(method, find, name);
}

TrainingService::TrainingService(Context* context) : ServiceBase(context) {
  Unary("CreateModel", HandleCreateModel, &v1::CreateModelRequest::model_id);
  OfModel("GetModel", HandleGetModel, &v1::GetModelRequest::name, "name");
  Unary("ListModels", HandleListModels, &v1::ListModelsRequest::page_token);
  Unary("DeleteModel", HandleDeleteModel, &v1::DeleteModelRequest::name);
  ServerStreaming("Train", StartTrain);
  ServerStreaming("WatchTraining", StartWatch);
  OfModel("StopTraining", HandleStopTraining, &v1::StopTrainingRequest::model);
  OfModel("Step", HandleStep, &v1::StepRequest::model);
  BidiStreaming("StepStream", StartSteps);
  OfModel("ComputeGradients", HandleComputeGradients, &v1::ComputeGradientsRequest::model);
  OfModel("ApplyGradients", HandleApplyGradients, &v1::ApplyGradientsRequest::model);
  OfModel("Predict", HandlePredict, &v1::PredictRequest::model);
  OfModel("Evaluate", HandleEvaluate, &v1::EvaluateRequest::model);
  OfModel("GradCheck", HandleGradCheck, &v1::GradCheckRequest::model);
  OfModel("GetParameters", HandleGetParameters, &v1::GetParametersRequest::model);
  OfModel("SetParameters", HandleSetParameters, &v1::SetParametersRequest::model);
  OfModel("CreateCheckpoint", HandleCreateCheckpoint, &v1::CreateCheckpointRequest::model);
  OfModel("ListCheckpoints", HandleListCheckpoints, &v1::ListCheckpointsRequest::model);
  Unary("RestoreCheckpoint", HandleRestoreCheckpoint, &v1::RestoreCheckpointRequest::name);
  Unary("DeleteCheckpoint", HandleDeleteCheckpoint, &v1::DeleteCheckpointRequest::name);
  ServerStreaming("ExportModel", StartExport);
  ClientStreaming("ImportModel", StartImport);
  ClientStreaming("UploadDataset", StartUpload);
  Unary("GetDataset", HandleGetDataset, &v1::GetDatasetRequest::name);
  Unary("ListDatasets", HandleListDatasets, &v1::ListDatasetsRequest::page_token);
  Unary("DeleteDataset", HandleDeleteDataset, &v1::DeleteDatasetRequest::name);
}

}  // namespace backprop::rpc
