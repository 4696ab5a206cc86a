#include "server/records/messages.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/records/rules.h"

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

engine::Buffer BufferOf(const std::string& bytes, engine::DataType type) {
  engine::Buffer buffer(type, static_cast<int64_t>(bytes.size()) / engine::SizeOf(type));
  if (buffer.count() > 0) std::memcpy(buffer.bytes(), bytes.data(), buffer.size_bytes());
  return buffer;
}

namespace {

template <class T>
bool FiniteNumbers(std::span<const T> numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](T x) { return std::isfinite(x); });
}

template <class T>
bool NumbersFromZero(std::span<const T> numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](T x) { return x >= 0; });
}

bool IsFloat32(const engine::Buffer& buffer) { return buffer.type() == engine::DataType::kFloat32; }

}  // namespace

bool AllFinite(const engine::Buffer& buffer) {
  return IsFloat32(buffer) ? FiniteNumbers(buffer.as<float>()) : FiniteNumbers(buffer.as<double>());
}

bool NoneNegative(const engine::Buffer& buffer, int64_t first, int64_t count) {
  const auto at = static_cast<size_t>(first);
  const auto size = static_cast<size_t>(count);
  return IsFloat32(buffer) ? NumbersFromZero(buffer.as<float>().subspan(at, size))
                           : NumbersFromZero(buffer.as<double>().subspan(at, size));
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

namespace {

absl::Status CheckSizes(const v1::Rows& message, engine::DataType type, absl::string_view what) {
  Rules rules(what);
  const int64_t n = message.rows();
  const int64_t d = message.inputs_per_row();
  const int64_t k = message.targets_per_row();
  const int64_t bytes = engine::SizeOf(type);
  rules.Between("rows.rows", n, 1, base::kMaxDatasetRows);
  rules.Between("rows.inputs_per_row", d, 1, kMostPerRow);
  rules.Between("rows.targets_per_row", k, 0, kMostPerRow);
  rules.Equal("rows.bytes_per_number", message.bytes_per_number(), bytes);
  if (!rules.ok()) return rules.status();
  const auto size_of = [](const auto& field) { return static_cast<int64_t>(field.size()); };
  rules.Equal("bytes of rows.inputs", size_of(message.inputs()), n * d * bytes);
  rules.Equal("bytes of rows.targets", size_of(message.targets()), n * k * bytes);
  if (k > 0 || !message.classes().empty()) {
    rules.Equal("number of rows.classes", size_of(message.classes()), k > 0 ? 0 : n);
  }
  if (!message.sample_weights().empty()) {
    rules.Equal("bytes of rows.sample_weights", size_of(message.sample_weights()), n * bytes);
  }
  return rules.status();
}

// Whether a network can be trained with rows whose sizes agree.
absl::Status CheckFits(const engine::Dataset& rows, const engine::Network& network,
                       absl::string_view what) {
  Rules rules(what);
  const engine::Loss loss = network.spec().loss.kind;
  rules.Equal("rows.inputs_per_row", rows.inputs_per_row, network.inputs());
  if (rows.classes.empty()) {
    rules.Equal("rows.targets_per_row", rows.targets_per_row, network.outputs());
    if (rules.ok() && engine::Classifies(loss)) {
      for (int64_t i = 0; i < rows.targets.count(); ++i) {
        const double y = rows.targets.Get(i);
        if (!(y >= 0 && y <= 1)) rules.Require(false, "rows.targets", "numbers from 0 to 1", y);
      }
    }
    return rules.status();
  }
  const int64_t classes = engine::ClassesOf(loss, network.outputs());
  rules.Require(classes > 0, "rows.classes", "targets, because the model takes no classes",
                "classes");
  const int32_t largest = *std::max_element(rows.classes.begin(), rows.classes.end());
  if (largest >= classes) rules.Between("rows.classes", largest, 0, classes - 1);
  return rules.status();
}

}  // namespace

absl::StatusOr<engine::Dataset> DecodeRows(const v1::Rows& message, engine::DataType type,
                                           absl::string_view what) {
  absl::Status sizes = CheckSizes(message, type, what);
  if (!sizes.ok()) return sizes;
  engine::Dataset rows;
  rows.rows = message.rows();
  rows.inputs_per_row = message.inputs_per_row();
  rows.targets_per_row = message.targets_per_row();
  rows.inputs = BufferOf(message.inputs(), type);
  rows.classes.assign(message.classes().begin(), message.classes().end());
  rows.targets = BufferOf(message.targets(), type);
  rows.sample_weights = BufferOf(message.sample_weights(), type);
  Rules rules(what);
  constexpr char kNotFinite[] = "one that is not";
  rules.Require(AllFinite(rows.inputs), "rows.inputs", "finite numbers", kNotFinite);
  rules.Require(AllFinite(rows.targets), "rows.targets", "finite numbers", kNotFinite);
  rules.Require(AllFinite(rows.sample_weights) &&
                    NoneNegative(rows.sample_weights, 0, rows.sample_weights.count()),
                "rows.sample_weights", "finite numbers from 0", kNotFinite);
  const auto least = std::min_element(rows.classes.begin(), rows.classes.end());
  if (least != rows.classes.end()) {
    rules.Between("rows.classes", *least, 0, std::numeric_limits<int32_t>::max());
  }
  if (!rules.ok()) return rules.status();
  return rows;
}

absl::StatusOr<engine::Dataset> DecodeRowsFor(const v1::Rows& message,
                                              const engine::Network& network,
                                              absl::string_view what) {
  auto rows = DecodeRows(message, network.spec().data_type, what);
  if (!rows.ok()) return rows;
  absl::Status fits = CheckFits(*rows, network, what);
  if (!fits.ok()) return fits;
  return rows;
}

}  // namespace backprop::records
