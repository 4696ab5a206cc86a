#include "server/records/messages.h"

#include <cstdint>
#include <cstring>

#include "absl/time/time.h"
#include "server/records/frame.h"

namespace backprop::records {

void Encode(const RequestKey& key, v1::RequestKey* message) {
  message->set_id(key.id);
  message->set_fingerprint(key.fingerprint);
}
RequestKey Decode(const v1::RequestKey& message) { return {message.id(), message.fingerprint()}; }

void Encode(const engine::LossResult& loss, v1::Loss* message) {
  message->set_sum(loss.sum);
  message->set_weight(loss.weight);
  message->set_correct(loss.correct);
  message->set_rows(loss.rows);
}
engine::LossResult Decode(const v1::Loss& message) {
  return {message.sum(), message.weight(), message.correct(), message.rows()};
}

void Encode(const engine::StepResult& result, v1::StepResult* message) {
  Encode(result.loss, message->mutable_loss());
  message->set_rows(result.rows);
  message->set_gradient_norm(result.gradient_norm);
  message->set_learning_rate(result.learning_rate);
}
engine::StepResult Decode(const v1::StepResult& message) {
  engine::StepResult result;
  result.loss = Decode(message.loss());
  result.rows = message.rows();
  result.gradient_norm = message.gradient_norm();
  result.learning_rate = message.learning_rate();
  return result;
}

void Encode(const Metrics& metrics, v1::Metrics* message) {
  message->set_loss(metrics.loss);
  if (metrics.accuracy.has_value()) message->set_accuracy(*metrics.accuracy);
  message->set_rows(metrics.rows);
}

Metrics Decode(const v1::Metrics& message) {
  Metrics metrics;
  metrics.loss = message.loss();
  if (message.has_accuracy()) metrics.accuracy = message.accuracy();
  metrics.rows = message.rows();
  return metrics;
}

void Encode(const Checkpoint& checkpoint, v1::Checkpoint* message) {
  message->set_id(checkpoint.id);
  message->set_step(checkpoint.step);
  message->set_create_time_unix_nanos(absl::ToUnixNanos(checkpoint.create_time));
  message->set_state_hash(checkpoint.state_hash);
  message->set_size_bytes(checkpoint.size_bytes);
  message->set_run(checkpoint.run);
  message->set_iteration(checkpoint.iteration);
  message->set_best(checkpoint.best);
  if (checkpoint.metrics.has_value()) Encode(*checkpoint.metrics, message->mutable_metrics());
  if (checkpoint.validation.has_value()) {
    Encode(*checkpoint.validation, message->mutable_validation());
  }
}

Checkpoint Decode(const v1::Checkpoint& message) {
  Checkpoint checkpoint;
  checkpoint.id = message.id();
  checkpoint.step = message.step();
  checkpoint.create_time = absl::FromUnixNanos(message.create_time_unix_nanos());
  checkpoint.state_hash = message.state_hash();
  checkpoint.size_bytes = message.size_bytes();
  checkpoint.run = message.run();
  checkpoint.iteration = message.iteration();
  checkpoint.best = message.best();
  if (message.has_metrics()) checkpoint.metrics = Decode(message.metrics());
  if (message.has_validation()) checkpoint.validation = Decode(message.validation());
  return checkpoint;
}

std::string BytesOf(const engine::Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes()), buffer.size_bytes()};
}

bool ReadBytes(const std::string& bytes, engine::DataType type, int64_t count,
               engine::Buffer* buffer) {
  if (count < 0 || bytes.size() != static_cast<size_t>(count * engine::SizeOf(type))) return false;
  *buffer = engine::Buffer(type, count);
  if (count > 0) std::memcpy(buffer->bytes(), bytes.data(), bytes.size());
  return true;
}

void Encode(const engine::Dataset& rows, v1::Rows* message) {
  message->set_rows(rows.rows);
  message->set_inputs_per_row(rows.inputs_per_row);
  message->set_targets_per_row(rows.targets_per_row);
  message->set_bytes_per_number(static_cast<uint32_t>(engine::SizeOf(rows.inputs.type())));
  message->set_inputs(BytesOf(rows.inputs));
  message->mutable_classes()->Add(rows.classes.begin(), rows.classes.end());
  message->set_targets(BytesOf(rows.targets));
  message->set_sample_weights(BytesOf(rows.sample_weights));
}

absl::StatusOr<engine::Dataset> DecodeRows(const v1::Rows& message, engine::DataType type,
                                           absl::string_view what) {
  engine::Dataset rows;
  rows.rows = message.rows();
  rows.inputs_per_row = message.inputs_per_row();
  rows.targets_per_row = message.targets_per_row();
  rows.classes.assign(message.classes().begin(), message.classes().end());
  const bool targets = !message.targets().empty();
  const bool weights = !message.sample_weights().empty();
  if (rows.rows < 1 || (!rows.classes.empty() && message.classes_size() != rows.rows) ||
      !ReadBytes(message.inputs(), type, rows.rows * rows.inputs_per_row, &rows.inputs) ||
      !ReadBytes(message.targets(), type, targets ? rows.rows * rows.targets_per_row : 0,
                 &rows.targets) ||
      !ReadBytes(message.sample_weights(), type, weights ? rows.rows : 0, &rows.sample_weights)) {
    return Damaged(what, "its rows do not match their declared sizes");
  }
  return rows;
}

absl::StatusOr<engine::Dataset> DecodeRowsFor(const v1::Rows& message,
                                              const engine::Network& network,
                                              absl::string_view what) {
  if (message.inputs_per_row() != network.inputs()) {
    return Damaged(what, "its rows do not match the model");
  }
  return DecodeRows(message, network.spec().data_type, what);
}

}  // namespace backprop::records
