// The service: one method per RPC, each a few lines that lead to its handler.
#ifndef BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
#define BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_

#include "backprop/v1/training_service.grpc.pb.h"
#include "server/rpc/context.h"

namespace backprop::rpc {

class TrainingService final : public v1::TrainingService::CallbackService {
 public:
  // `context` must outlive the service.
  explicit TrainingService(Context* context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateModel(grpc::CallbackServerContext*,
                                        const v1::CreateModelRequest* request,
                                        v1::CreateModelResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext*,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext*,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteModel(grpc::CallbackServerContext*,
                                        const v1::DeleteModelRequest* request,
                                        v1::DeleteModelResponse* response) override;
  grpc::ServerWriteReactor<v1::TrainResponse>* Train(grpc::CallbackServerContext*,
                                                     const v1::TrainRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchTrainingResponse>* WatchTraining(
      grpc::CallbackServerContext*, const v1::WatchTrainingRequest* request) override;
  grpc::ServerUnaryReactor* StopTraining(grpc::CallbackServerContext*,
                                         const v1::StopTrainingRequest* request,
                                         v1::StopTrainingResponse* response) override;
  grpc::ServerUnaryReactor* Step(grpc::CallbackServerContext*, const v1::StepRequest* request,
                                 v1::StepResponse* response) override;
  grpc::ServerBidiReactor<v1::StepStreamRequest, v1::StepStreamResponse>* StepStream(
      grpc::CallbackServerContext*) override;
  grpc::ServerUnaryReactor* ComputeGradients(grpc::CallbackServerContext*,
                                             const v1::ComputeGradientsRequest* request,
                                             v1::ComputeGradientsResponse* response) override;
  grpc::ServerUnaryReactor* ApplyGradients(grpc::CallbackServerContext*,
                                           const v1::ApplyGradientsRequest* request,
                                           v1::ApplyGradientsResponse* response) override;
  grpc::ServerUnaryReactor* Predict(grpc::CallbackServerContext*, const v1::PredictRequest* request,
                                    v1::PredictResponse* response) override;
  grpc::ServerUnaryReactor* Evaluate(grpc::CallbackServerContext*,
                                     const v1::EvaluateRequest* request,
                                     v1::EvaluateResponse* response) override;
  grpc::ServerUnaryReactor* GradCheck(grpc::CallbackServerContext*,
                                      const v1::GradCheckRequest* request,
                                      v1::GradCheckResponse* response) override;
  grpc::ServerUnaryReactor* GetParameters(grpc::CallbackServerContext*,
                                          const v1::GetParametersRequest* request,
                                          v1::GetParametersResponse* response) override;
  grpc::ServerUnaryReactor* SetParameters(grpc::CallbackServerContext*,
                                          const v1::SetParametersRequest* request,
                                          v1::SetParametersResponse* response) override;
  grpc::ServerUnaryReactor* CreateCheckpoint(grpc::CallbackServerContext*,
                                             const v1::CreateCheckpointRequest* request,
                                             v1::CreateCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext*,
                                            const v1::ListCheckpointsRequest* request,
                                            v1::ListCheckpointsResponse* response) override;
  grpc::ServerUnaryReactor* RestoreCheckpoint(grpc::CallbackServerContext*,
                                              const v1::RestoreCheckpointRequest* request,
                                              v1::RestoreCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* DeleteCheckpoint(grpc::CallbackServerContext*,
                                             const v1::DeleteCheckpointRequest* request,
                                             v1::DeleteCheckpointResponse* response) override;
  grpc::ServerWriteReactor<v1::ExportModelResponse>* ExportModel(
      grpc::CallbackServerContext*, const v1::ExportModelRequest* request) override;
  grpc::ServerReadReactor<v1::ImportModelRequest>* ImportModel(
      grpc::CallbackServerContext*, v1::ImportModelResponse* response) override;
  grpc::ServerReadReactor<v1::UploadDatasetRequest>* UploadDataset(
      grpc::CallbackServerContext*, v1::UploadDatasetResponse* response) override;
  grpc::ServerUnaryReactor* GetDataset(grpc::CallbackServerContext*,
                                       const v1::GetDatasetRequest* request,
                                       v1::GetDatasetResponse* response) override;
  grpc::ServerUnaryReactor* ListDatasets(grpc::CallbackServerContext*,
                                         const v1::ListDatasetsRequest* request,
                                         v1::ListDatasetsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteDataset(grpc::CallbackServerContext*,
                                          const v1::DeleteDatasetRequest* request,
                                          v1::DeleteDatasetResponse* response) override;

 private:
  Context* const context_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_TRAINING_SERVICE_H_
