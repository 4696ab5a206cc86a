// Status, Tensor, Cancellation: everything that does not use gRPC.
#include <cstring>
#include <type_traits>

#include "backprop/call_options.h"
#include "backprop/status.h"
#include "backprop/tensor.h"
#include "backprop/training.h"

namespace backprop {

const char* StatusCodeName(StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  return kNames[static_cast<int>(code)];
}

std::string Status::ToString() const {
  if (ok()) return "OK";
  return std::string(StatusCodeName(code)) + ": " + message;
}

const char* StopReasonName(StopReason reason) {
  static constexpr const char* kNames[] = {"unspecified",     "completed",     "stopped",
                                           "cancelled",       "diverged",      "model deleted",
                                           "server shutdown", "stopped early", "data lost"};
  return kNames[static_cast<int>(reason)];
}

namespace {

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace

Tensor::Tensor(int64_t rows, int64_t cols, const std::vector<float>& values)
    : Tensor(rows, cols, DataType::kFloat32, Bytes(values)) {}
Tensor::Tensor(int64_t rows, int64_t cols, const std::vector<double>& values)
    : Tensor(rows, cols, DataType::kFloat64, Bytes(values)) {}

double Tensor::at(int64_t row, int64_t col) const {
  const auto index = static_cast<size_t>(row * cols_ + col);
  if (type_ == DataType::kFloat32) {
    float value = 0;
    std::memcpy(&value, bytes_.data() + index * sizeof(value), sizeof(value));
    return static_cast<double>(value);
  }
  double value = 0;
  std::memcpy(&value, bytes_.data() + index * sizeof(value), sizeof(value));
  return value;
}

std::vector<double> Tensor::ToDoubles() const {
  std::vector<double> values;
  values.reserve(static_cast<size_t>(rows_ * cols_));
  for (int64_t i = 0; i < rows_; ++i) {
    for (int64_t j = 0; j < cols_; ++j) values.push_back(at(i, j));
  }
  return values;
}

Batch Rows(const Batch& batch, int64_t first, int64_t count) {
  const auto take = [&](const auto& all) {
    using List = std::decay_t<decltype(all)>;
    return all.empty() ? List() : List(all.begin() + first, all.begin() + first + count);
  };
  const auto rows_of = [&](const Tensor& tensor) {
    if (tensor.empty()) return Tensor();
    const auto row_bytes =
        static_cast<size_t>(tensor.cols()) * (tensor.type() == DataType::kFloat32 ? 4 : 8);
    return Tensor(count, tensor.cols(), tensor.type(),
                  tensor.bytes().substr(static_cast<size_t>(first) * row_bytes,
                                        static_cast<size_t>(count) * row_bytes));
  };
  return {rows_of(batch.inputs), take(batch.labels), take(batch.label_names),
          rows_of(batch.targets), take(batch.sample_weights)};
}

void Cancellation::Cancel() {
  const std::lock_guard<std::mutex> lock(state_->mu);
  state_->cancelled = true;
  for (const auto& [number, action] : state_->actions) action();
}

bool Cancellation::cancelled() const {
  const std::lock_guard<std::mutex> lock(state_->mu);
  return state_->cancelled;
}

int Cancellation::Add(std::function<void()> action) {
  const std::lock_guard<std::mutex> lock(state_->mu);
  if (state_->cancelled) action();
  state_->actions[state_->next] = std::move(action);
  return state_->next++;
}

void Cancellation::Remove(int number) {
  const std::lock_guard<std::mutex> lock(state_->mu);
  state_->actions.erase(number);
}

}  // namespace backprop
