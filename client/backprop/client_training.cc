// Runs and gradients.
#include <utility>

#include "backprop/client.h"
#include "client/backprop/calls.h"

namespace backprop {
namespace {

using Stub = v1::TrainingService::Stub;

}  // namespace

Result<TrainingSummary> Client::Train(const std::string& model, const Batch& data,
                                      const TrainOptions& train, const EventCallback& on_event,
                                      const CallOptions& call) {
  v1::TrainRequest request;
  request.set_model(ResourceName(model));
  ToMessage(train, request.mutable_config());
  if (train.dataset.empty()) {
    ToMessage(data, request.mutable_data());
  } else {
    request.set_dataset(DatasetName(train.dataset));
  }
  if (!train.validation_dataset.empty()) {
    request.set_validation_dataset(DatasetName(train.validation_dataset));
  } else if (train.validation.has_value()) {
    ToMessage(*train.validation, request.mutable_validation());
  }
  request.set_detach(train.detach);
  request.set_wait(train.wait);
  request.set_request_id(RequestId(call));
  if (Status invalid = CheckRequest(request); !invalid.ok()) return invalid;
  // The same request attaches to the run again. It delivers events from the first on.
  return impl_->Follow<v1::TrainResponse>(
      call, on_event, !train.detach,
      [&](grpc::ClientContext* context, const std::string&, int64_t) {
        return impl_->stub->Train(context, request);
      });
}

Result<TrainingSummary> Client::WatchTraining(const std::string& model, const WatchOptions& watch,
                                              const EventCallback& on_event,
                                              const CallOptions& call) {
  v1::WatchTrainingRequest request;
  request.set_model(ResourceName(model));
  request.set_run(watch.run);
  if (Status invalid = CheckRequest(request); !invalid.ok()) return invalid;
  return impl_->Follow<v1::WatchTrainingResponse>(
      call, on_event, false,
      [&](grpc::ClientContext* context, const std::string& run, int64_t next) {
        // Meanwhile the model may have a newer run.
        if (!run.empty()) request.set_run(run);
        request.set_from_sequence(std::max(watch.from_sequence, next));
        return impl_->stub->WatchTraining(context, request);
      });
}

Result<StopResult> Client::StopTraining(const std::string& model, const CallOptions& call) {
  v1::StopTrainingRequest request;
  request.set_model(ResourceName(model));
  request.set_request_id(RequestId(call));
  v1::StopTrainingResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::StopTraining, request, call, &response);
  if (!status.ok()) return status;
  return StopResult{response.run(), FromMessage(response.summary())};
}

Result<Gradients> Client::ComputeGradients(const std::string& model, const Batch& batch,
                                           const CallOptions& call) {
  v1::ComputeGradientsRequest request;
  request.set_model(ResourceName(model));
  ToMessage(batch, request.mutable_batch());
  request.set_encoding(v1::TENSOR_ENCODING_RAW);
  v1::ComputeGradientsResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::ComputeGradients, request, call, &response);
  if (!status.ok()) return status;
  return Gradients{FromMessage(response.gradients()), FromMessage(response.metrics()),
                   response.gradient_norm(), response.weight(), response.step()};
}

Result<AppliedGradients> Client::ApplyGradients(const std::string& model,
                                                const std::vector<NamedTensor>& gradients,
                                                std::optional<int64_t> expected_step,
                                                const CallOptions& call) {
  v1::ApplyGradientsRequest request;
  request.set_model(ResourceName(model));
  ToMessage(gradients, request.mutable_gradients());
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(RequestId(call));
  v1::ApplyGradientsResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::ApplyGradients, request, call, &response);
  if (!status.ok()) return status;
  return AppliedGradients{response.step(), response.gradient_norm(), response.learning_rate()};
}

}  // namespace backprop
