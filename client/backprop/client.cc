#include "backprop/client.h"

#include <utility>

#include "client/backprop/calls.h"
#include "client/backprop/proxy.h"

namespace backprop {

Client::Client(const std::string& address, ClientOptions options)
    : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the server enforces its limits
  // By default, gRPC fails every call for a second after a refused connection. Retries here have
  // their own pauses.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Despite its name, this is the timeout of an attempt to connect.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  if (const auto& keepalive = impl_->options.keepalive; keepalive.has_value()) {
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(keepalive->time.count()));
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(keepalive->timeout.count()));
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA,
                     0);  // no limit, because streams may be idle
  }
  if (impl_->options.use_proxy) impl_->proxy = ProxyFor(address, SystemEnvironment);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, impl_->proxy.has_value() ? 1 : 0);
  const auto& tls = impl_->options.tls;
  impl_->credentials = std::make_unique<Credentials>(address, tls.has_value() ? &*tls : nullptr,
                                                     impl_->options.token);
  if (const std::string& name = impl_->credentials->server_name(); !name.empty()) {
    arguments.SetSslTargetNameOverride(name);
  }
  impl_->channel = grpc::CreateCustomChannel(address, impl_->credentials->channel(), arguments);
  impl_->stub = v1::TrainingService::NewStub(impl_->channel);
  impl_->admin = v1::AdminService::NewStub(impl_->channel);
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
  // The values are those of the API.
  request.set_durability(static_cast<v1::Durability>(create.durability));
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
                                    const EvaluateOptions& options, const CallOptions& call) {
  v1::EvaluateRequest request;
  request.set_model(ResourceName(model));
  if (options.dataset.empty()) {
    ToMessage(data, request.mutable_data());
  } else {
    request.set_dataset(DatasetName(options.dataset));
  }
  if (options.top_k.has_value()) request.set_top_k(*options.top_k);
  request.set_summary_only(options.summary_only);
  v1::EvaluateResponse response;
  Status status = impl_->Call(impl_->stub.get(), &Stub::Evaluate, request, call, &response);
  if (!status.ok()) return status;
  return FromMessage(response);
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

bool Client::Connected() const {
  return impl_->channel->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
}

}  // namespace backprop
