#include "client/backprop/convert.h"

#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace backprop {
namespace {

std::chrono::nanoseconds FromDuration(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

// The contract's enums have "unspecified" first and then the same order as the client's.
v1::DataType ToMessage(DataType type) {
  return type == DataType::kFloat32 ? v1::DATA_TYPE_FLOAT32 : v1::DATA_TYPE_FLOAT64;
}
DataType FromMessage(v1::DataType type) {
  return type == v1::DATA_TYPE_FLOAT64 ? DataType::kFloat64 : DataType::kFloat32;
}

}  // namespace

Status FromGrpc(const grpc::Status& grpc_status) {
  Status status;
  status.code = static_cast<StatusCode>(grpc_status.error_code());
  status.message = grpc_status.error_message();
  google::rpc::Status details;
  if (!details.ParseFromString(grpc_status.error_details())) return status;
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::ErrorInfo info;
    if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        status.field_violations.push_back({violation.field(), violation.description()});
      }
    } else if (any.UnpackTo(&info)) {
      status.reason = info.reason();
      status.metadata.insert(info.metadata().begin(), info.metadata().end());
    }
  }
  return status;
}

void ToMessage(const ModelSpec& spec, v1::ModelSpec* message) {
  message->set_input_size(spec.input_size);
  for (const Layer& layer : spec.layers) {
    v1::Layer* out = message->add_layers();
    out->set_units(layer.units);
    out->set_activation(static_cast<v1::Activation>(layer.activation));
    out->set_initializer(static_cast<v1::Initializer>(layer.initializer));
  }
  switch (spec.loss) {
    case Loss::kSoftmaxCrossEntropy:
      message->mutable_loss()->mutable_softmax_cross_entropy();
      break;
    case Loss::kBinaryCrossEntropy:
      message->mutable_loss()->mutable_binary_cross_entropy();
      break;
    case Loss::kMeanSquaredError:
      message->mutable_loss()->mutable_mean_squared_error();
      break;
  }
  if (const auto* sgd = std::get_if<Sgd>(&spec.optimizer)) {
    v1::Sgd* out = message->mutable_optimizer()->mutable_sgd();
    out->set_learning_rate(sgd->learning_rate);
    out->set_momentum(sgd->momentum);
  } else {
    const Adam& adam = std::get<Adam>(spec.optimizer);
    v1::Adam* out = message->mutable_optimizer()->mutable_adam();
    out->set_learning_rate(adam.learning_rate);
    out->set_beta1(adam.beta1);
    out->set_beta2(adam.beta2);
    out->set_epsilon(adam.epsilon);
  }
  message->set_seed(spec.seed);
  message->set_data_type(ToMessage(spec.data_type));
  message->mutable_class_names()->Add(spec.class_names.begin(), spec.class_names.end());
  message->mutable_feature_names()->Add(spec.feature_names.begin(), spec.feature_names.end());
}

void ToMessage(const Tensor& tensor, v1::Tensor* message) {
  message->add_shape(static_cast<int32_t>(tensor.rows()));
  message->add_shape(static_cast<int32_t>(tensor.cols()));
  message->set_raw(tensor.bytes());
  message->set_data_type(ToMessage(tensor.type()));
}

void ToMessage(const Batch& batch, v1::Batch* message) {
  ToMessage(batch.inputs, message->mutable_inputs());
  if (!batch.labels.empty()) {
    v1::Tensor* labels = message->mutable_labels();
    labels->add_shape(static_cast<int32_t>(batch.labels.size()));
    labels->set_raw(batch.labels.data(), batch.labels.size() * sizeof(int32_t));
    labels->set_data_type(v1::DATA_TYPE_INT32);
  }
  message->mutable_label_names()->Add(batch.label_names.begin(), batch.label_names.end());
  if (!batch.targets.empty()) ToMessage(batch.targets, message->mutable_targets());
}

void ToMessage(const Parameters& parameters, v1::Parameters* message) {
  const auto add = [](const std::vector<NamedTensor>& tensors,
                      google::protobuf::RepeatedPtrField<v1::NamedTensor>* out) {
    for (const NamedTensor& tensor : tensors) {
      v1::NamedTensor* named = out->Add();
      named->set_name(tensor.name);
      ToMessage(tensor.tensor, named->mutable_tensor());
    }
  };
  add(parameters.tensors, message->mutable_tensors());
  add(parameters.optimizer_state, message->mutable_optimizer_state());
  if (parameters.step.has_value()) message->set_step(*parameters.step);
  if (parameters.optimizer_step.has_value())
    message->set_optimizer_step(*parameters.optimizer_step);
}

void ToMessage(const TrainOptions& options, v1::TrainingConfig* message) {
  if (options.iterations.has_value()) message->set_iterations(*options.iterations);
  if (options.epochs.has_value()) message->set_epochs(*options.epochs);
  if (options.batch_size.has_value()) message->set_batch_size(*options.batch_size);
  if (options.shuffle.has_value()) message->set_shuffle(*options.shuffle);
  if (options.report_every.has_value()) message->set_report_every(*options.report_every);
}

void ToMessage(const GradCheckOptions& options, v1::GradCheckConfig* message) {
  if (options.epsilon.has_value()) message->set_epsilon(*options.epsilon);
  if (options.tolerance.has_value()) message->set_tolerance(*options.tolerance);
  if (options.kernel_tolerance.has_value()) {
    message->set_kernel_tolerance(*options.kernel_tolerance);
  }
  if (options.max_entries_per_tensor.has_value()) {
    message->set_max_entries_per_tensor(*options.max_entries_per_tensor);
  }
  message->set_seed(options.seed);
}

ModelSpec FromMessage(const v1::ModelSpec& message) {
  ModelSpec spec;
  spec.input_size = message.input_size();
  for (const v1::Layer& layer : message.layers()) {
    spec.layers.push_back({layer.units(), static_cast<Activation>(layer.activation()),
                           static_cast<Initializer>(layer.initializer())});
  }
  if (message.loss().has_binary_cross_entropy()) spec.loss = Loss::kBinaryCrossEntropy;
  if (message.loss().has_mean_squared_error()) spec.loss = Loss::kMeanSquaredError;
  if (message.optimizer().has_adam()) {
    const v1::Adam& from = message.optimizer().adam();
    Adam adam;
    if (from.has_learning_rate()) adam.learning_rate = from.learning_rate();
    if (from.has_beta1()) adam.beta1 = from.beta1();
    if (from.has_beta2()) adam.beta2 = from.beta2();
    if (from.has_epsilon()) adam.epsilon = from.epsilon();
    spec.optimizer = adam;
  } else {
    const v1::Sgd& from = message.optimizer().sgd();
    Sgd sgd;
    if (from.has_learning_rate()) sgd.learning_rate = from.learning_rate();
    if (from.has_momentum()) sgd.momentum = from.momentum();
    spec.optimizer = sgd;
  }
  spec.seed = message.seed();
  spec.data_type = FromMessage(message.data_type());
  spec.class_names.assign(message.class_names().begin(), message.class_names().end());
  spec.feature_names.assign(message.feature_names().begin(), message.feature_names().end());
  return spec;
}

ModelInfo FromMessage(const v1::Model& message) {
  ModelInfo info;
  info.name = message.name();
  info.spec = FromMessage(message.spec());
  info.step = message.step();
  info.parameter_count = message.parameter_count();
  info.labels.insert(message.labels().begin(), message.labels().end());
  info.create_time = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::seconds(message.create_time().seconds()) +
          std::chrono::nanoseconds(message.create_time().nanos())));
  if (message.has_ttl()) info.ttl = FromDuration(message.ttl());
  info.active_run = message.active_run();
  return info;
}

Tensor FromMessage(const v1::Tensor& message) {
  const int64_t last = message.shape_size() == 0 ? 0 : message.shape(message.shape_size() - 1);
  const int64_t rows = message.shape_size() == 2 ? message.shape(0) : 1;
  if (message.raw().empty()) {
    return Tensor(rows, last,
                  std::vector<double>(message.values().begin(), message.values().end()));
  }
  return Tensor(rows, last, FromMessage(message.data_type()), message.raw());
}

Parameters FromMessage(const v1::Parameters& message) {
  const auto convert = [](const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors) {
    std::vector<NamedTensor> out;
    for (const v1::NamedTensor& tensor : tensors) {
      out.push_back(
          {tensor.name(), FromMessage(tensor.tensor()), tensor.tensor().shape_size() == 1});
    }
    return out;
  };
  Parameters parameters;
  parameters.tensors = convert(message.tensors());
  parameters.optimizer_state = convert(message.optimizer_state());
  if (message.has_step()) parameters.step = message.step();
  if (message.has_optimizer_step()) parameters.optimizer_step = message.optimizer_step();
  return parameters;
}

Metrics FromMessage(const v1::Metrics& message) {
  Metrics metrics;
  metrics.loss = message.loss();
  if (message.has_accuracy()) metrics.accuracy = message.accuracy();
  metrics.rows = message.rows();
  return metrics;
}

TrainingSummary FromMessage(const v1::TrainingSummary& message) {
  TrainingSummary summary;
  summary.stop_reason = static_cast<StopReason>(message.stop_reason());
  summary.iterations = message.iterations();
  summary.step = message.step();
  if (message.has_metrics()) summary.metrics = FromMessage(message.metrics());
  summary.elapsed = FromDuration(message.elapsed());
  summary.message = message.message();
  return summary;
}

TrainingEvent FromMessage(const v1::TrainingEvent& message) {
  TrainingEvent event;
  event.run = message.run();
  event.sequence = message.sequence();
  event.dropped = message.dropped();
  if (message.has_started()) {
    const v1::RunStarted& started = message.started();
    event.body = RunStarted{started.total_iterations(), started.iterations_per_epoch(),
                            started.rows(), started.start_step()};
  } else if (message.has_progress()) {
    const v1::Progress& progress = message.progress();
    event.body = Progress{
        progress.iteration(),     progress.total_iterations(),     progress.epoch(),
        progress.step(),          FromMessage(progress.metrics()), progress.learning_rate(),
        progress.gradient_norm(), progress.samples_per_second(),   FromDuration(progress.eta())};
  } else {
    event.body = FromMessage(message.summary());
  }
  return event;
}

GradCheckResult FromMessage(const v1::GradCheckResponse& message) {
  const v1::GradCheckResult& from = message.result();
  GradCheckResult result;
  result.passed = from.passed();
  result.max_relative_error = from.max_relative_error();
  result.sampled = from.sampled();
  result.loss = from.loss();
  result.epsilon = from.epsilon();
  result.tolerance = from.tolerance();
  result.kernel_tolerance = from.kernel_tolerance();
  result.kernel_rows_set_aside = from.kernel_rows_set_aside();
  result.step = message.step();
  for (const v1::TensorGradCheck& tensor : from.tensors()) {
    TensorGradCheck check;
    check.name = tensor.name();
    check.shape.assign(tensor.shape().begin(), tensor.shape().end());
    check.checked = tensor.checked();
    check.set_aside = tensor.set_aside();
    check.not_sampled = tensor.not_sampled();
    check.max_absolute_error = tensor.max_absolute_error();
    check.max_relative_error = tensor.max_relative_error();
    check.worst_index.assign(tensor.worst_index().begin(), tensor.worst_index().end());
    check.worst_analytic = tensor.worst_analytic();
    check.worst_numeric = tensor.worst_numeric();
    check.kernel_max_relative_error = tensor.kernel_max_relative_error();
    check.passed = tensor.passed();
    result.tensors.push_back(std::move(check));
  }
  return result;
}

}  // namespace backprop
