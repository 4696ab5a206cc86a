// Runs, steps and gradients.
#include <utility>

#include "backprop/client.h"
#include "client/backprop/calls.h"

namespace backprop {
namespace {

using Stub = v1::TrainingService::Stub;

v1::StepRequest MakeStep(const std::string& model, const Batch& batch,
                         std::optional<int64_t> expected_step, std::string request_id) {
  v1::StepRequest request;
  request.set_model(ResourceName(model));
  ToMessage(batch, request.mutable_batch());
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(std::move(request_id));
  return request;
}

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
  return impl_->Follow<v1::TrainResponse>(
      call, on_event, !train.detach,
      [&](grpc::ClientContext* context, int64_t) { return impl_->stub->Train(context, request); });
}

Result<TrainingSummary> Client::WatchTraining(const std::string& model, const WatchOptions& watch,
                                              const EventCallback& on_event,
                                              const CallOptions& call) {
  v1::WatchTrainingRequest request;
  request.set_model(ResourceName(model));
  request.set_run(watch.run);
  return impl_->Follow<v1::WatchTrainingResponse>(
      call, on_event, false, [&](grpc::ClientContext* context, int64_t next) {
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

Result<StepResult> Client::Step(const std::string& model, const Batch& batch,
                                std::optional<int64_t> expected_step, const CallOptions& call) {
  const v1::StepRequest request = MakeStep(model, batch, expected_step, RequestId(call));
  v1::StepResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Step, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response);
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

struct StepStream::Impl {
  Impl(const Credentials& credentials, v1::TrainingService::Stub* stub, std::string model_name,
       const CallOptions& options,
       std::function<void(const google::protobuf::Message&)> sees_replies)
      : model(std::move(model_name)),
        call(options),
        scope(call, &context),
        on_reply(std::move(sees_replies)),
        authorized(credentials.Authorize(&context)) {
    if (call.timeout.has_value()) {
      context.set_deadline(std::chrono::system_clock::now() + *call.timeout);
    }
    if (authorized.ok()) stream = stub->StepStream(&context);
  }
  ~Impl() {
    if (!finished && stream != nullptr) {
      context.TryCancel();
      stream->Finish();
    }
  }

  const std::string model;
  const CallOptions call;
  grpc::ClientContext context;
  const CancelScope scope;
  const std::function<void(const google::protobuf::Message&)> on_reply;
  const grpc::Status authorized;
  // Null if the call is not authorized.
  std::unique_ptr<grpc::ClientReaderWriter<v1::StepStreamRequest, v1::StepStreamResponse>> stream;
  bool finished = false;
};

StepStream::StepStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StepStream::~StepStream() = default;
StepStream::StepStream(StepStream&&) noexcept = default;
StepStream& StepStream::operator=(StepStream&&) noexcept = default;

bool StepStream::Send(const Batch& batch, std::optional<int64_t> expected_step,
                      const std::string& request_id) {
  v1::StepStreamRequest request;
  *request.mutable_step() =
      MakeStep(impl_->model, batch, expected_step, request_id.empty() ? RandomId() : request_id);
  return impl_->stream != nullptr && impl_->stream->Write(request);
}

std::optional<Result<StepResult>> StepStream::Receive() {
  v1::StepStreamResponse response;
  if (impl_->stream == nullptr || !impl_->stream->Read(&response)) return std::nullopt;
  if (impl_->on_reply) impl_->on_reply(response);
  if (response.has_error()) return FromMessage(response.error());
  return FromMessage(response.step());
}

void StepStream::DoneSending() {
  if (impl_->stream != nullptr) impl_->stream->WritesDone();
}

Status StepStream::Finish() {
  impl_->finished = true;
  if (impl_->stream == nullptr) return FromGrpc(impl_->authorized);
  return FromGrpc(Plain(impl_->stream->Finish(), Cancelled(impl_->call)));
}

StepStream Client::OpenStepStream(const std::string& model, const CallOptions& call) {
  return StepStream(std::make_unique<StepStream::Impl>(
      *impl_->credentials, impl_->stub.get(), ResourceName(model), call, impl_->options.on_reply));
}

}  // namespace backprop
