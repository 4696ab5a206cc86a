#include "server/rpc/training_service.h"

#include <xxhash.h>

#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/rpc/handlers.h"
#include "server/rpc/names.h"
#include "server/rpc/step_stream.h"

namespace backprop::rpc {

absl::StatusOr<std::shared_ptr<session::Session>> FindModel(Context* context,
                                                            absl::string_view field,
                                                            absl::string_view name) {
  const auto id = ParseModelName(field, name);
  if (!id.ok()) return id.status();
  return context->registry->Find(*id);
}

absl::StatusOr<session::RequestKey> KeyOf(const char* method, const std::string& request_id,
                                          const google::protobuf::Message& request) {
  if (request_id.empty()) return session::RequestKey();
  const absl::Status status = CheckRequestId(request_id);
  if (!status.ok()) return status;
  std::string content(method);
  {
    google::protobuf::io::StringOutputStream stream(&content);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&coded);
  }
  return session::RequestKey{request_id, XXH3_64bits(content.data(), content.size())};
}

namespace {

template <class Request, class Response>
grpc::ServerUnaryReactor* Unary(Context* context, grpc::CallbackServerContext* grpc_call,
                                const char* method, const std::string& model,
                                void (*handler)(Context*, UnaryCall*, const Request&, Response*),
                                const Request* request, Response* response) {
  auto* call = new UnaryCall(context, grpc_call, method, model);
  grpc::ServerUnaryReactor* const reactor = call->reactor();  // the call may end in the handler
  handler(context, call, *request, response);
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* TrainingService::CreateModel(grpc::CallbackServerContext* call,
                                                       const v1::CreateModelRequest* request,
                                                       v1::CreateModelResponse* response) {
  return Unary(context_, call, "CreateModel", request->model_id(), HandleCreateModel, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::GetModel(grpc::CallbackServerContext* call,
                                                    const v1::GetModelRequest* request,
                                                    v1::GetModelResponse* response) {
  return Unary(context_, call, "GetModel", request->name(), HandleGetModel, request, response);
}

grpc::ServerUnaryReactor* TrainingService::ListModels(grpc::CallbackServerContext* call,
                                                      const v1::ListModelsRequest* request,
                                                      v1::ListModelsResponse* response) {
  return Unary(context_, call, "ListModels", request->page_token(), HandleListModels, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::DeleteModel(grpc::CallbackServerContext* call,
                                                       const v1::DeleteModelRequest* request,
                                                       v1::DeleteModelResponse* response) {
  return Unary(context_, call, "DeleteModel", request->name(), HandleDeleteModel, request,
               response);
}

grpc::ServerWriteReactor<v1::TrainResponse>* TrainingService::Train(
    grpc::CallbackServerContext*, const v1::TrainRequest* request) {
  const auto ownership =
      request->detach() ? TrainStream::Ownership::kWatches : TrainStream::Ownership::kOwns;
  auto stream = TrainStream::Make(context_, "Train", request->model(), ownership, 1);
  HandleTrain(context_, stream, *request);
  return stream.get();
}

grpc::ServerWriteReactor<v1::WatchTrainingResponse>* TrainingService::WatchTraining(
    grpc::CallbackServerContext*, const v1::WatchTrainingRequest* request) {
  auto stream = WatchStream::Make(context_, "WatchTraining", request->model(),
                                  WatchStream::Ownership::kWatches, request->from_sequence());
  HandleWatchTraining(context_, stream, *request);
  return stream.get();
}

grpc::ServerUnaryReactor* TrainingService::StopTraining(grpc::CallbackServerContext* call,
                                                        const v1::StopTrainingRequest* request,
                                                        v1::StopTrainingResponse* response) {
  return Unary(context_, call, "StopTraining", request->model(), HandleStopTraining, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::Step(grpc::CallbackServerContext* call,
                                                const v1::StepRequest* request,
                                                v1::StepResponse* response) {
  return Unary(context_, call, "Step", request->model(), HandleStep, request, response);
}

grpc::ServerBidiReactor<v1::StepStreamRequest, v1::StepStreamResponse>* TrainingService::StepStream(
    grpc::CallbackServerContext*) {
  return rpc::StepStream::Start(context_).get();
}

grpc::ServerUnaryReactor* TrainingService::ComputeGradients(
    grpc::CallbackServerContext* call, const v1::ComputeGradientsRequest* request,
    v1::ComputeGradientsResponse* response) {
  return Unary(context_, call, "ComputeGradients", request->model(), HandleComputeGradients,
               request, response);
}

grpc::ServerUnaryReactor* TrainingService::ApplyGradients(grpc::CallbackServerContext* call,
                                                          const v1::ApplyGradientsRequest* request,
                                                          v1::ApplyGradientsResponse* response) {
  return Unary(context_, call, "ApplyGradients", request->model(), HandleApplyGradients, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::Predict(grpc::CallbackServerContext* call,
                                                   const v1::PredictRequest* request,
                                                   v1::PredictResponse* response) {
  return Unary(context_, call, "Predict", request->model(), HandlePredict, request, response);
}

grpc::ServerUnaryReactor* TrainingService::Evaluate(grpc::CallbackServerContext* call,
                                                    const v1::EvaluateRequest* request,
                                                    v1::EvaluateResponse* response) {
  return Unary(context_, call, "Evaluate", request->model(), HandleEvaluate, request, response);
}

grpc::ServerUnaryReactor* TrainingService::GradCheck(grpc::CallbackServerContext* call,
                                                     const v1::GradCheckRequest* request,
                                                     v1::GradCheckResponse* response) {
  return Unary(context_, call, "GradCheck", request->model(), HandleGradCheck, request, response);
}

grpc::ServerUnaryReactor* TrainingService::GetParameters(grpc::CallbackServerContext* call,
                                                         const v1::GetParametersRequest* request,
                                                         v1::GetParametersResponse* response) {
  return Unary(context_, call, "GetParameters", request->model(), HandleGetParameters, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::SetParameters(grpc::CallbackServerContext* call,
                                                         const v1::SetParametersRequest* request,
                                                         v1::SetParametersResponse* response) {
  return Unary(context_, call, "SetParameters", request->model(), HandleSetParameters, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::CreateCheckpoint(
    grpc::CallbackServerContext* call, const v1::CreateCheckpointRequest* request,
    v1::CreateCheckpointResponse* response) {
  return Unary(context_, call, "CreateCheckpoint", request->model(), HandleCreateCheckpoint,
               request, response);
}

grpc::ServerUnaryReactor* TrainingService::ListCheckpoints(
    grpc::CallbackServerContext* call, const v1::ListCheckpointsRequest* request,
    v1::ListCheckpointsResponse* response) {
  return Unary(context_, call, "ListCheckpoints", request->model(), HandleListCheckpoints, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::RestoreCheckpoint(
    grpc::CallbackServerContext* call, const v1::RestoreCheckpointRequest* request,
    v1::RestoreCheckpointResponse* response) {
  return Unary(context_, call, "RestoreCheckpoint", request->name(), HandleRestoreCheckpoint,
               request, response);
}

grpc::ServerUnaryReactor* TrainingService::DeleteCheckpoint(
    grpc::CallbackServerContext* call, const v1::DeleteCheckpointRequest* request,
    v1::DeleteCheckpointResponse* response) {
  return Unary(context_, call, "DeleteCheckpoint", request->name(), HandleDeleteCheckpoint, request,
               response);
}

grpc::ServerWriteReactor<v1::ExportModelResponse>* TrainingService::ExportModel(
    grpc::CallbackServerContext*, const v1::ExportModelRequest* request) {
  return DownloadStream<v1::ExportModelResponse>::Start(context_, "ExportModel", request->model(),
                                                        ExportOf(context_, *request))
      .get();
}

grpc::ServerReadReactor<v1::ImportModelRequest>* TrainingService::ImportModel(
    grpc::CallbackServerContext*, v1::ImportModelResponse* response) {
  return UploadStream<v1::ImportModelRequest>::Start(context_, "ImportModel",
                                                     ImportInto(context_, response))
      .get();
}

grpc::ServerReadReactor<v1::UploadDatasetRequest>* TrainingService::UploadDataset(
    grpc::CallbackServerContext*, v1::UploadDatasetResponse* response) {
  return UploadStream<v1::UploadDatasetRequest>::Start(context_, "UploadDataset",
                                                       UploadInto(context_, response))
      .get();
}

grpc::ServerUnaryReactor* TrainingService::GetDataset(grpc::CallbackServerContext* call,
                                                      const v1::GetDatasetRequest* request,
                                                      v1::GetDatasetResponse* response) {
  return Unary(context_, call, "GetDataset", request->name(), HandleGetDataset, request, response);
}

grpc::ServerUnaryReactor* TrainingService::ListDatasets(grpc::CallbackServerContext* call,
                                                        const v1::ListDatasetsRequest* request,
                                                        v1::ListDatasetsResponse* response) {
  return Unary(context_, call, "ListDatasets", request->page_token(), HandleListDatasets, request,
               response);
}

grpc::ServerUnaryReactor* TrainingService::DeleteDataset(grpc::CallbackServerContext* call,
                                                         const v1::DeleteDatasetRequest* request,
                                                         v1::DeleteDatasetResponse* response) {
  return Unary(context_, call, "DeleteDataset", request->name(), HandleDeleteDataset, request,
               response);
}

}  // namespace backprop::rpc
