#include "backprop/client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "backprop/v1/training_service.grpc.pb.h"
#include "client/backprop/convert.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace backprop {
namespace {

using SteadyClock = std::chrono::steady_clock;

std::string ResourceName(const std::string& model) {
  return model.rfind("models/", 0) == 0 ? model : "models/" + model;
}

std::string RandomId() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    for (unsigned bits = device(), j = 0; j < 8; ++j, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

std::string RequestId(const CallOptions& call) {
  return call.request_id.empty() ? RandomId() : call.request_id;
}

bool Cancelled(const CallOptions& call) {
  return call.cancellation.has_value() && call.cancellation->cancelled();
}

// Cancels a call's context while it lives.
class CancelScope {
 public:
  CancelScope(const CallOptions& call, grpc::ClientContext* context)
      : cancellation_(call.cancellation) {
    if (cancellation_.has_value())
      number_ = cancellation_->Add([context] { context->TryCancel(); });
  }
  ~CancelScope() {
    if (cancellation_.has_value()) cancellation_->Remove(number_);
  }
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;

 private:
  std::optional<Cancellation> cancellation_;
  int number_ = 0;
};

// Counts the attempts of a call and pauses between them, within its deadline.
class Attempts {
 public:
  Attempts(const RetryOptions& retry, const CallOptions& call)
      : retry_(retry), call_(call), pause_(retry.first_pause) {
    if (call.timeout.has_value()) deadline_ = std::chrono::system_clock::now() + *call.timeout;
  }

  void Prepare(grpc::ClientContext* context) const {
    if (deadline_.has_value()) context->set_deadline(*deadline_);
  }

  // Whether to try again after `status`; sleeps if so.
  bool Again(const grpc::Status& status) {
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || ++made_ >= retry_.max_attempts ||
        Cancelled(call_)) {
      return false;
    }
    // A random half of the pause keeps clients from coming back all at once.
    std::minstd_rand random(std::random_device{}());
    const auto half = pause_.count() / 2;
    const auto pause = std::chrono::milliseconds(half + static_cast<int64_t>(random()) %
                                                            std::max<int64_t>(half, 1));
    if (deadline_.has_value() && std::chrono::system_clock::now() + pause >= *deadline_)
      return false;
    std::this_thread::sleep_for(pause);
    pause_ = std::min(pause_ * 2, retry_.last_pause);
    return true;
  }

  int made() const { return made_; }
  // A success ends a row of failures.
  void Reset() {
    made_ = 0;
    pause_ = retry_.first_pause;
  }

 private:
  const RetryOptions& retry_;
  const CallOptions& call_;
  std::chrono::milliseconds pause_;
  std::optional<std::chrono::system_clock::time_point> deadline_;
  int made_ = 0;
};

// A call that nobody here cancelled was cut off by a server that shut down: it may be tried again.
grpc::Status Plain(const grpc::Status& status, bool cancelled_here) {
  if (status.error_code() != grpc::StatusCode::CANCELLED || cancelled_here) return status;
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server cut the call off");
}

}  // namespace

struct Client::Impl {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::TrainingService::Stub> stub;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;

  // A unary call with its retries: the same request, byte for byte.
  template <class Stub, class Request, class Response>
  Status Call(Stub* on,
              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request, const CallOptions& call, Response* response) {
    Attempts attempts(options.retry, call);
    for (;;) {
      grpc::ClientContext context;
      attempts.Prepare(&context);
      grpc::Status status;
      {
        const CancelScope scope(call, &context);
        status = Plain((on->*method)(&context, request, response), Cancelled(call));
      }
      if (status.ok()) {
        if (options.on_reply) options.on_reply(*response);
        return {};
      }
      if (!attempts.Again(status)) return FromGrpc(status);
    }
  }

  // Reads a stream of events to its summary. `open` starts the stream, from the given sequence
  // number on. Events that were seen before a reconnection are not told again.
  template <class Response, class Open>
  Result<TrainingSummary> Follow(const CallOptions& call, const EventCallback& on_event,
                                 bool run_ends_with_call, const Open& open) {
    Attempts attempts(options.retry, call);
    int64_t next = 1;
    bool reconnected = false;
    for (;;) {
      grpc::ClientContext context;
      attempts.Prepare(&context);
      const CancelScope scope(call, &context);
      const auto reader = open(&context, next);
      std::optional<TrainingSummary> summary;
      Response response;
      bool goes_on = true;
      while (reader->Read(&response)) {
        attempts.Reset();
        TrainingEvent event = FromMessage(response.event());
        if (event.sequence < next) continue;
        next = event.sequence + 1;
        if (options.on_reply) options.on_reply(response);
        if (const auto* end = std::get_if<TrainingSummary>(&event.body)) summary = *end;
        if (goes_on && on_event && !on_event(event)) {
          goes_on = false;
          context.TryCancel();
        }
      }
      const grpc::Status status = Plain(reader->Finish(), !goes_on || Cancelled(call));
      if (status.ok() && summary.has_value()) {
        if (reconnected && run_ends_with_call && summary->stop_reason == StopReason::kCancelled) {
          Status broken;
          broken.code = StatusCode::kUnavailable;
          broken.message = "the connection broke, which stopped the run after " +
                           std::to_string(summary->iterations) +
                           " iterations; a detached run would have gone on";
          return broken;
        }
        return *summary;
      }
      if (!goes_on || !attempts.Again(status)) {
        Status failed = FromGrpc(status);
        if (failed.ok()) {
          failed.code = StatusCode::kUnavailable;
          failed.message = "the stream ended without a summary";
        }
        return failed;
      }
      reconnected = true;
    }
  }
};

Client::Client(const std::string& address, ClientOptions options)
    : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the server's limits count
  impl_->channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  impl_->stub = v1::TrainingService::NewStub(impl_->channel);
  impl_->health = grpc::health::v1::Health::NewStub(impl_->channel);
}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

using Stub = v1::TrainingService::Stub;

Result<ModelInfo> Client::CreateModel(const ModelSpec& spec, const CreateOptions& create,
                                      const CallOptions& call) {
  v1::CreateModelRequest request;
  request.set_model_id(create.model_id);
  ToMessage(spec, request.mutable_spec());
  request.mutable_labels()->insert(create.labels.begin(), create.labels.end());
  if (create.ttl.has_value()) {
    request.mutable_ttl()->set_seconds(create.ttl->count() / 1'000'000'000);
    request.mutable_ttl()->set_nanos(static_cast<int32_t>(create.ttl->count() % 1'000'000'000));
  }
  if (create.initial_parameters.has_value()) {
    ToMessage(*create.initial_parameters, request.mutable_initial_parameters());
  }
  request.set_request_id(RequestId(call));
  v1::CreateModelResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::CreateModel, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response.model());
}

Result<ModelInfo> Client::GetModel(const std::string& model, const CallOptions& call) {
  v1::GetModelRequest request;
  request.set_name(ResourceName(model));
  v1::GetModelResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::GetModel, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response.model());
}

Result<ModelPage> Client::ListModels(const ListOptions& list, const CallOptions& call) {
  v1::ListModelsRequest request;
  request.set_page_size(list.page_size);
  request.set_page_token(list.page_token);
  request.mutable_labels()->insert(list.labels.begin(), list.labels.end());
  v1::ListModelsResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::ListModels, request, call, &response);
  if (!status.ok()) return status;
  ModelPage page;
  for (const v1::Model& model : response.models()) page.models.push_back(FromMessage(model));
  page.next_page_token = response.next_page_token();
  return page;
}

Status Client::DeleteModel(const std::string& model, const CallOptions& call) {
  v1::DeleteModelRequest request;
  request.set_name(ResourceName(model));
  request.set_request_id(RequestId(call));
  v1::DeleteModelResponse response;
  return impl_->Call(impl_->stub.get(), &Stub::DeleteModel, request, call, &response);
}

Result<TrainingSummary> Client::Train(const std::string& model, const Batch& data,
                                      const TrainOptions& train, const EventCallback& on_event,
                                      const CallOptions& call) {
  v1::TrainRequest request;
  request.set_model(ResourceName(model));
  ToMessage(train, request.mutable_config());
  ToMessage(data, request.mutable_data());
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
  v1::StepRequest request;
  request.set_model(ResourceName(model));
  ToMessage(batch, request.mutable_batch());
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(RequestId(call));
  v1::StepResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Step, request, call, &response);
  if (!status.ok()) return status;
  return StepResult{response.step(), FromMessage(response.metrics()), response.gradient_norm(),
                    response.learning_rate()};
}

Result<Prediction> Client::Predict(const std::string& model, const Tensor& inputs,
                                   const PredictOutputs& outputs, const CallOptions& call) {
  v1::PredictRequest request;
  request.set_model(ResourceName(model));
  ToMessage(inputs, request.mutable_inputs());
  if (outputs.logits) request.add_outputs(v1::PREDICT_OUTPUT_LOGITS);
  if (outputs.probabilities) request.add_outputs(v1::PREDICT_OUTPUT_PROBABILITIES);
  if (outputs.classes) request.add_outputs(v1::PREDICT_OUTPUT_CLASSES);
  v1::PredictResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Predict, request, call, &response);
  if (!status.ok()) return status;
  Prediction prediction;
  if (response.has_logits()) prediction.logits = FromMessage(response.logits());
  if (response.has_probabilities()) {
    prediction.probabilities = FromMessage(response.probabilities());
  }
  prediction.classes.assign(response.classes().begin(), response.classes().end());
  prediction.class_names.assign(response.class_names().begin(), response.class_names().end());
  prediction.step = response.step();
  return prediction;
}

Result<Evaluation> Client::Evaluate(const std::string& model, const Batch& data,
                                    const CallOptions& call) {
  v1::EvaluateRequest request;
  request.set_model(ResourceName(model));
  ToMessage(data, request.mutable_data());
  v1::EvaluateResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Evaluate, request, call, &response);
  if (!status.ok()) return status;
  return Evaluation{FromMessage(response.metrics()), response.step()};
}

Result<GradCheckResult> Client::GradCheck(const std::string& model, const Batch& batch,
                                          const GradCheckOptions& options,
                                          const CallOptions& call) {
  v1::GradCheckRequest request;
  request.set_model(ResourceName(model));
  ToMessage(batch, request.mutable_batch());
  ToMessage(options, request.mutable_config());
  v1::GradCheckResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::GradCheck, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response);
}

Result<Parameters> Client::GetParameters(const std::string& model, bool with_optimizer_state,
                                         const CallOptions& call) {
  v1::GetParametersRequest request;
  request.set_model(ResourceName(model));
  request.set_encoding(v1::TENSOR_ENCODING_RAW);
  request.set_omit_optimizer_state(!with_optimizer_state);
  v1::GetParametersResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::GetParameters, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response.parameters());
}

Result<int64_t> Client::SetParameters(const std::string& model, const Parameters& parameters,
                                      std::optional<int64_t> expected_step,
                                      const CallOptions& call) {
  v1::SetParametersRequest request;
  request.set_model(ResourceName(model));
  ToMessage(parameters, request.mutable_parameters());
  if (expected_step.has_value()) request.set_expected_step(*expected_step);
  request.set_request_id(RequestId(call));
  v1::SetParametersResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::SetParameters, request, call, &response);
  if (!status.ok()) return status;
  return response.step();
}

Result<bool> Client::CheckHealth(const std::string& service, const CallOptions& call) {
  using grpc::health::v1::Health;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  Status status = impl_->Call(impl_->health.get(), &Health::Stub::Check, request, call, &response);
  if (!status.ok()) return status;
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace backprop
