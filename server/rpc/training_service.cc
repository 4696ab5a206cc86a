#include "server/rpc/training_service.h"

#include <xxhash.h>

#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/codec/names.h"
#include "server/records/request_key.h"
#include "server/rpc/handlers.h"
#include "server/rpc/step_stream.h"
#include "server/session/session.h"

namespace backprop::rpc {

absl::StatusOr<std::shared_ptr<session::Session>> FindModel(Context* context,
                                                            absl::string_view field,
                                                            absl::string_view name) {
  const auto id = codec::ParseModelName(field, name);
  if (!id.ok()) return id.status();
  return context->registry->FindAndWait(*id);
}

absl::StatusOr<records::RequestKey> RequestKeyOf(const char* method, const std::string& request_id,
                                                 const google::protobuf::Message& request) {
  if (request_id.empty()) return records::RequestKey();
  const absl::Status status = codec::CheckRequestId(request_id);
  if (!status.ok()) return status;
  std::string content(method);
  {
    google::protobuf::io::StringOutputStream stream(&content);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&coded);
  }
  return records::RequestKey{request_id, XXH3_64bits(content.data(), content.size())};
}

namespace {

grpc::ServerWriteReactor<v1::TrainResponse>* StartTrain(Context* context, const CallInfo& info,
                                                        const v1::TrainRequest& request,
                                                        const absl::Status& parsed) {
  const auto ownership =
      request.detach() ? TrainStream::Ownership::kWatches : TrainStream::Ownership::kOwns;
  const auto stream = TrainStream::Make(info, request.model(), ownership, 1);
  if (parsed.ok()) {
    HandleTrain(context, stream, request);
  } else {
    stream->Attach(parsed);
  }
  return stream.get();
}

grpc::ServerWriteReactor<v1::WatchTrainingResponse>* StartWatch(
    Context* context, const CallInfo& info, const v1::WatchTrainingRequest& request,
    const absl::Status& parsed) {
  const auto stream = WatchStream::Make(info, request.model(), WatchStream::Ownership::kWatches,
                                        request.from_sequence());
  if (parsed.ok()) {
    HandleWatchTraining(context, stream, request);
  } else {
    stream->Attach(parsed);
  }
  return stream.get();
}

grpc::ServerWriteReactor<v1::ExportModelResponse>* StartExport(
    Context* context, const CallInfo& info, const v1::ExportModelRequest& request,
    const absl::Status& parsed) {
  return DownloadStream<v1::ExportModelResponse>::Start(
      info, request.model(), context->environment->pool,
      parsed.ok() ? ExportOf(context, request) : parsed);
}

grpc::ServerReadReactor<Incoming<v1::ImportModelRequest>>* StartImport(
    Context* context, const CallInfo& info, v1::ImportModelResponse* response) {
  return UploadStream<v1::ImportModelRequest>::Start(info, ImportInto(context, response));
}

grpc::ServerReadReactor<Incoming<v1::UploadDatasetRequest>>* StartUpload(
    Context* context, const CallInfo& info, v1::UploadDatasetResponse* response) {
  return UploadStream<v1::UploadDatasetRequest>::Start(info, UploadInto(context, response));
}

grpc::ServerBidiReactor<Incoming<v1::StepStreamRequest>, v1::StepStreamResponse>* StartSteps(
    Context* context, const CallInfo& info) {
  return StepStream::Start(context, info);
}

}  // namespace

TrainingService::TrainingService(Context* context) : ServiceBase(context) {
  Unary("CreateModel", HandleCreateModel, &v1::CreateModelRequest::model_id);
  Unary("GetModel", HandleGetModel, &v1::GetModelRequest::name);
  Unary("ListModels", HandleListModels, &v1::ListModelsRequest::page_token);
  Unary("DeleteModel", HandleDeleteModel, &v1::DeleteModelRequest::name);
  ServerStreaming("Train", StartTrain);
  ServerStreaming("WatchTraining", StartWatch);
  Unary("StopTraining", HandleStopTraining, &v1::StopTrainingRequest::model);
  Unary("Step", HandleStep, &v1::StepRequest::model);
  BidiStreaming("StepStream", StartSteps);
  Unary("ComputeGradients", HandleComputeGradients, &v1::ComputeGradientsRequest::model);
  Unary("ApplyGradients", HandleApplyGradients, &v1::ApplyGradientsRequest::model);
  Unary("Predict", HandlePredict, &v1::PredictRequest::model);
  Unary("Evaluate", HandleEvaluate, &v1::EvaluateRequest::model);
  Unary("GradCheck", HandleGradCheck, &v1::GradCheckRequest::model);
  Unary("GetParameters", HandleGetParameters, &v1::GetParametersRequest::model);
  Unary("SetParameters", HandleSetParameters, &v1::SetParametersRequest::model);
  Unary("CreateCheckpoint", HandleCreateCheckpoint, &v1::CreateCheckpointRequest::model);
  Unary("ListCheckpoints", HandleListCheckpoints, &v1::ListCheckpointsRequest::model);
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
