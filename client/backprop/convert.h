// Conversion between the client's types and the API's messages. Not installed.
#ifndef BACKPROP_CLIENT_CONVERT_H_
#define BACKPROP_CLIENT_CONVERT_H_

#include <google/protobuf/timestamp.pb.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <string>
#include <vector>

#include "backprop/model.h"
#include "backprop/resources.h"
#include "backprop/status.h"
#include "backprop/training.h"
#include "backprop/v1/training_service.pb.h"
#include "google/rpc/status.pb.h"

namespace backprop {

Status FromGrpc(const grpc::Status& status);

Status FromMessage(const google::rpc::Status& details);

std::chrono::system_clock::time_point FromMessage(const google::protobuf::Timestamp& time);

v1::DataType ToMessage(DataType type);
DataType FromMessage(v1::DataType type);
void ToMessage(const InputStandardization& from, v1::InputStandardization* message);
InputStandardization FromMessage(const v1::InputStandardization& message);
void ToMessage(const std::vector<NamedTensor>& tensors,
               google::protobuf::RepeatedPtrField<v1::NamedTensor>* out);
std::vector<NamedTensor> FromMessage(
    const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors);
void ToMessage(const ModelSpec& spec, v1::ModelSpec* message);
void ToMessage(const Tensor& tensor, v1::Tensor* message);
void ToMessage(const Batch& batch, v1::Batch* message);
void ToMessage(const Parameters& parameters, v1::Parameters* message);
void ToMessage(const TrainOptions& options, v1::TrainingConfig* message);
void ToMessage(const GradCheckOptions& options, v1::GradCheckConfig* message);

ModelSpec FromMessage(const v1::ModelSpec& message);
ModelInfo FromMessage(const v1::Model& message);
Tensor FromMessage(const v1::Tensor& message);
Parameters FromMessage(const v1::Parameters& message);
Metrics FromMessage(const v1::Metrics& message);
StepResult FromMessage(const v1::StepResponse& message);
TrainingSummary FromMessage(const v1::TrainingSummary& message);
TrainingEvent FromMessage(const v1::TrainingEvent& message);
CheckpointInfo FromMessage(const v1::Checkpoint& message);
DatasetInfo FromMessage(const v1::Dataset& message);
Evaluation FromMessage(const v1::EvaluateResponse& message);
GradCheckResult FromMessage(const v1::GradCheckResponse& message);

}  // namespace backprop

#endif  // BACKPROP_CLIENT_CONVERT_H_
