#include "client/backprop/convert.h"

#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace backprop {
namespace {

std::chrono::nanoseconds FromDuration(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

}  // namespace

std::chrono::system_clock::time_point FromMessage(const google::protobuf::Timestamp& time) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos())));
}

v1::DataType ToMessage(DataType type) {
  return type == DataType::kFloat32 ? v1::DATA_TYPE_FLOAT32 : v1::DATA_TYPE_FLOAT64;
}
DataType FromMessage(v1::DataType type) {
  return type == v1::DATA_TYPE_FLOAT64 ? DataType::kFloat64 : DataType::kFloat32;
}

Status FromGrpc(const grpc::Status& grpc_status) {
  google::rpc::Status details;
  if (!details.ParseFromString(grpc_status.error_details())) details.Clear();
  details.set_code(grpc_status.error_code());
  details.set_message(grpc_status.error_message());
  return FromMessage(details);
}

Status FromMessage(const google::rpc::Status& details) {
  Status status;
  status.code = static_cast<StatusCode>(details.code());
  status.message = details.message();
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        status.field_violations.push_back({violation.field(), violation.description()});
      }
    } else if (any.UnpackTo(&info)) {
      status.reason = info.reason();
      status.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&retry)) {
      status.retry_delay =
          std::chrono::duration_cast<std::chrono::milliseconds>(FromDuration(retry.retry_delay()));
    }
  }
  return status;
}

void ToMessage(const Tensor& tensor, v1::Tensor* message) {
  message->add_shape(static_cast<int32_t>(tensor.rows()));
  message->add_shape(static_cast<int32_t>(tensor.cols()));
  message->set_raw(tensor.bytes());
  message->set_data_type(ToMessage(tensor.type()));
  message->set_byte_order(v1::BYTE_ORDER_LITTLE_ENDIAN);
}

void ToMessage(const Batch& batch, v1::Batch* message) {
  ToMessage(batch.inputs, message->mutable_inputs());
  if (!batch.labels.empty()) {
    v1::Tensor* labels = message->mutable_labels();
    labels->add_shape(static_cast<int32_t>(batch.labels.size()));
    labels->set_raw(batch.labels.data(), batch.labels.size() * sizeof(int32_t));
    labels->set_data_type(v1::DATA_TYPE_INT32);
    labels->set_byte_order(v1::BYTE_ORDER_LITTLE_ENDIAN);
  }
  message->mutable_label_names()->Add(batch.label_names.begin(), batch.label_names.end());
  if (!batch.targets.empty()) ToMessage(batch.targets, message->mutable_targets());
  if (!batch.sample_weights.empty()) {
    const auto rows = static_cast<int64_t>(batch.sample_weights.size());
    ToMessage(Tensor(rows, 1, batch.sample_weights), message->mutable_sample_weights());
  }
}

void ToMessage(const std::vector<NamedTensor>& tensors,
               google::protobuf::RepeatedPtrField<v1::NamedTensor>* out) {
  for (const NamedTensor& tensor : tensors) {
    v1::NamedTensor* named = out->Add();
    named->set_name(tensor.name);
    ToMessage(tensor.tensor, named->mutable_tensor());
  }
}

std::vector<NamedTensor> FromMessage(
    const google::protobuf::RepeatedPtrField<v1::NamedTensor>& tensors) {
  std::vector<NamedTensor> out;
  for (const v1::NamedTensor& tensor : tensors) {
    out.push_back({tensor.name(), FromMessage(tensor.tensor()), tensor.tensor().shape_size() == 1});
  }
  return out;
}

void ToMessage(const Parameters& parameters, v1::Parameters* message) {
  ToMessage(parameters.tensors, message->mutable_tensors());
  ToMessage(parameters.optimizer_state, message->mutable_optimizer_state());
  if (parameters.input_standardization.has_value()) {
    ToMessage(*parameters.input_standardization, message->mutable_input_standardization());
  }
  if (parameters.plateau.has_value()) {
    v1::PlateauState* plateau = message->mutable_plateau();
    plateau->set_learning_rate(parameters.plateau->learning_rate);
    plateau->set_best(parameters.plateau->best);
    plateau->set_bad_epochs(parameters.plateau->bad_epochs);
    plateau->set_cooldown(parameters.plateau->cooldown);
  }
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
  if (options.validation_split.has_value()) {
    message->set_validation_split(*options.validation_split);
  }
  if (options.report_interval.has_value()) {
    const int64_t nanos = options.report_interval->count();
    message->mutable_report_interval()->set_seconds(nanos / 1'000'000'000);
    message->mutable_report_interval()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
  message->set_continue_epoch(options.continue_epoch);
  message->set_redraw_validation_split(options.redraw_validation_split);
  if (options.stratify.has_value()) message->set_stratify(*options.stratify);
  if (options.checkpoints.has_value()) {
    v1::CheckpointConfig* checkpoints = message->mutable_checkpoints();
    const CheckpointOptions& from = *options.checkpoints;
    if (from.every_iterations.has_value()) {
      checkpoints->set_every_iterations(*from.every_iterations);
    }
    if (from.keep_last.has_value()) checkpoints->set_keep_last(*from.keep_last);
    checkpoints->set_keep_best(from.keep_best);
  }
  if (options.early_stopping.has_value()) {
    v1::EarlyStopping* stopping = message->mutable_early_stopping();
    stopping->set_patience(options.early_stopping->patience);
    stopping->set_min_delta(options.early_stopping->min_delta);
    stopping->set_restore_best(options.early_stopping->restore_best);
  }
}

CheckpointInfo FromMessage(const v1::Checkpoint& message) {
  CheckpointInfo info;
  info.name = message.name();
  info.step = message.step();
  info.create_time = FromMessage(message.create_time());
  info.size_bytes = message.size_bytes();
  info.run = message.run();
  info.iteration = message.iteration();
  info.best = message.best();
  if (message.has_metrics()) info.metrics = FromMessage(message.metrics());
  if (message.has_validation()) info.validation = FromMessage(message.validation());
  return info;
}

DatasetInfo FromMessage(const v1::Dataset& message) {
  DatasetInfo info;
  info.name = message.name();
  info.ready = message.state() == v1::DATASET_STATE_READY;
  info.rows = message.rows();
  info.input_size = message.input_size();
  info.target_size = message.target_size();
  info.has_sample_weights = message.has_sample_weights();
  info.data_type = FromMessage(message.data_type());
  info.class_names.assign(message.class_names().begin(), message.class_names().end());
  info.labels.insert(message.labels().begin(), message.labels().end());
  info.create_time = FromMessage(message.create_time());
  info.size_bytes = message.size_bytes();
  info.feature_names.assign(message.feature_names().begin(), message.feature_names().end());
  return info;
}

ModelInfo FromMessage(const v1::Model& message) {
  ModelInfo info;
  info.name = message.name();
  info.spec = FromMessage(message.spec());
  info.step = message.step();
  info.parameter_count = message.parameter_count();
  info.labels.insert(message.labels().begin(), message.labels().end());
  info.create_time = FromMessage(message.create_time());
  if (message.has_ttl()) info.ttl = FromDuration(message.ttl());
  info.durability = static_cast<Durability>(message.durability());
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
  Parameters parameters;
  parameters.tensors = FromMessage(message.tensors());
  parameters.optimizer_state = FromMessage(message.optimizer_state());
  if (message.has_step()) parameters.step = message.step();
  if (message.has_optimizer_step()) parameters.optimizer_step = message.optimizer_step();
  if (message.has_input_standardization()) {
    parameters.input_standardization = FromMessage(message.input_standardization());
  }
  if (message.has_plateau()) {
    const v1::PlateauState& plateau = message.plateau();
    parameters.plateau = PlateauState{plateau.learning_rate(), plateau.best(), plateau.bad_epochs(),
                                      plateau.cooldown()};
  }
  return parameters;
}

Metrics FromMessage(const v1::Metrics& message) {
  Metrics metrics;
  metrics.loss = message.loss();
  if (message.has_accuracy()) metrics.accuracy = message.accuracy();
  metrics.rows = message.rows();
  return metrics;
}

StepResult FromMessage(const v1::StepResponse& message) {
  return {message.step(), FromMessage(message.metrics()), message.gradient_norm(),
          message.learning_rate()};
}

TrainingSummary FromMessage(const v1::TrainingSummary& message) {
  TrainingSummary summary;
  summary.stop_reason = static_cast<StopReason>(message.stop_reason());
  summary.iterations = message.iterations();
  summary.step = message.step();
  if (message.has_metrics()) summary.metrics = FromMessage(message.metrics());
  summary.elapsed = FromDuration(message.elapsed());
  summary.message = message.message();
  if (message.has_validation()) summary.validation = FromMessage(message.validation());
  summary.best_iteration = message.best_iteration();
  summary.best_loss = message.best_loss();
  summary.restored_best = message.restored_best();
  return summary;
}

TrainingEvent FromMessage(const v1::TrainingEvent& message) {
  TrainingEvent event;
  event.run = message.run();
  event.sequence = message.sequence();
  event.dropped = message.dropped();
  if (message.has_started()) {
    const v1::RunStarted& started = message.started();
    event.body =
        RunStarted{started.total_iterations(), started.iterations_per_epoch(), started.rows(),
                   started.start_step(),       started.validation_rows(),      started.batch_size(),
                   started.resumed_batches()};
  } else if (message.has_progress()) {
    const v1::Progress& progress = message.progress();
    Progress body;
    body.iteration = progress.iteration();
    body.total_iterations = progress.total_iterations();
    body.epoch = progress.epoch();
    body.step = progress.step();
    body.metrics = FromMessage(progress.metrics());
    body.learning_rate = progress.learning_rate();
    body.gradient_norm = progress.gradient_norm();
    body.samples_per_second = progress.samples_per_second();
    body.eta = FromDuration(progress.eta());
    if (progress.has_validation()) body.validation = FromMessage(progress.validation());
    event.body = body;
  } else {
    event.body = FromMessage(message.summary());
  }
  return event;
}

}  // namespace backprop
