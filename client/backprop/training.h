// What training takes and tells.
#ifndef BACKPROP_CLIENT_TRAINING_H_
#define BACKPROP_CLIENT_TRAINING_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backprop/tensor.h"

namespace backprop {

struct Metrics {
  double loss = 0;
  std::optional<double> accuracy{};
  int64_t rows = 0;
};

// Exactly one of iterations and epochs is given.
struct TrainOptions {
  std::optional<int64_t> iterations{};
  std::optional<int64_t> epochs{};
  std::optional<int32_t> batch_size{};    // default: all rows
  std::optional<bool> shuffle{};          // default: with mini-batches
  std::optional<int64_t> report_every{};  // default: a hundredth of the run
  bool detach = false;                    // the run goes on when this call ends
  bool wait = false;                      // wait for a run under way
};

enum class StopReason {
  kUnspecified,
  kCompleted,
  kStopped,
  kCancelled,
  kDiverged,
  kModelDeleted,
  kServerShutdown
};
const char* StopReasonName(StopReason reason);  // "completed"

struct RunStarted {
  int64_t total_iterations = 0;
  int64_t iterations_per_epoch = 0;
  int64_t rows = 0;
  int64_t start_step = 0;
};

struct Progress {
  int64_t iteration = 0;
  int64_t total_iterations = 0;
  int64_t epoch = 0;
  int64_t step = 0;
  Metrics metrics{};  // on the iteration's batch, before its update
  double learning_rate = 0;
  double gradient_norm = 0;
  double samples_per_second = 0;
  std::chrono::nanoseconds eta{0};
};

struct TrainingSummary {
  StopReason stop_reason = StopReason::kUnspecified;
  int64_t iterations = 0;
  int64_t step = 0;
  std::optional<Metrics> metrics{};  // on all rows, with the final parameters
  std::chrono::nanoseconds elapsed{0};
  std::string message{};
};

struct TrainingEvent {
  std::string run{};     // models/{id}/runs/{n}
  int64_t sequence = 0;  // from 1
  int64_t dropped = 0;   // events missed since the previous one
  std::variant<RunStarted, Progress, TrainingSummary> body{};
};

// Is called for each event, on the calling thread. Returning false ends the call, which stops the
// run unless it is detached.
using EventCallback = std::function<bool(const TrainingEvent&)>;

struct StepResult {
  int64_t step = 0;
  Metrics metrics{};
  double gradient_norm = 0;
  double learning_rate = 0;
};

// Which outputs Predict answers with; none set: the default for the model's loss.
struct PredictOutputs {
  bool logits = false;
  bool probabilities = false;
  bool classes = false;
};

struct Prediction {
  Tensor logits{};         // (n, k)
  Tensor probabilities{};  // (n, k)
  std::vector<int32_t> classes{};
  std::vector<std::string> class_names{};
  int64_t step = 0;
};

struct Evaluation {
  Metrics metrics{};
  int64_t step = 0;
};

struct GradCheckOptions {
  std::optional<double> epsilon{};
  std::optional<double> tolerance{};
  std::optional<double> kernel_tolerance{};
  std::optional<int32_t> max_entries_per_tensor{};
  uint64_t seed = 0;
};

struct TensorGradCheck {
  std::string name{};
  std::vector<int32_t> shape{};
  int64_t checked = 0;
  int64_t set_aside = 0;
  int64_t not_sampled = 0;
  double max_absolute_error = 0;
  double max_relative_error = 0;
  std::vector<int32_t> worst_index{};
  double worst_analytic = 0;
  double worst_numeric = 0;
  double kernel_max_relative_error = 0;
  bool passed = false;
};

struct GradCheckResult {
  bool passed = false;
  std::vector<TensorGradCheck> tensors{};
  double max_relative_error = 0;
  bool sampled = false;
  double loss = 0;
  double epsilon = 0;
  double tolerance = 0;
  double kernel_tolerance = 0;
  int64_t kernel_rows_set_aside = 0;
  int64_t step = 0;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_TRAINING_H_
