// Options and results of training, prediction, evaluation and gradient checks.
#ifndef BACKPROP_CLIENT_TRAINING_H_
#define BACKPROP_CLIENT_TRAINING_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backprop/model.h"
#include "backprop/tensor.h"

namespace backprop {

struct Metrics {
  double loss = 0;
  std::optional<double> accuracy{};
  int64_t rows = 0;
};

// Ends a run if the validation loss (without validation: the epoch's training loss) no longer
// falls.
struct EarlyStopping {
  int64_t patience = 10;  // epochs
  double min_delta = 0;
  bool restore_best = true;
};

// Automatic checkpoints of a run. At least one of the two kinds must be set.
struct CheckpointOptions {
  std::optional<int64_t> every_iterations{};
  std::optional<int32_t> keep_last{};  // number of periodic checkpoints kept; default 3
  bool keep_best = false;              // keep the epoch with the lowest loss
};

// Exactly one of iterations and epochs must be set.
struct TrainOptions {
  std::optional<int64_t> iterations{};
  std::optional<int64_t> epochs{};
  std::optional<int32_t> batch_size{};    // default, and maximum: all rows
  std::optional<bool> shuffle{};          // default: true with mini-batches
  std::optional<int64_t> report_every{};  // default: 1/100 of the run
  bool detach = false;                    // the run continues when this call ends
  bool wait = false;                      // wait until the active run has ended
  // Rows to validate on after every epoch: a batch, or a fraction of the data. At most one of them.
  std::optional<Batch> validation{};
  std::optional<double> validation_split{};
  std::optional<EarlyStopping> early_stopping{};
  // datasets/{id} or just the id. If set, `data` or `validation` is not sent.
  std::string dataset{};
  std::string validation_dataset{};
  std::optional<CheckpointOptions> checkpoints{};  // automatic checkpoints
  // Maximum time between two reports, at least 1 ms; default 1 s.
  std::optional<std::chrono::nanoseconds> report_interval{};
  // Resume the epoch that the previous run left unfinished, if it had the same rows and plan.
  bool continue_epoch = false;
  bool redraw_validation_split = false;  // draw a new split for this run
  std::optional<bool> stratify{};        // stratify the split by class; default true
};

enum class StopReason {
  kUnspecified,
  kCompleted,
  kStopped,
  kCancelled,
  kDiverged,
  kModelDeleted,
  kServerShutdown,
  kEarlyStopped,
  kDataLost
};
const char* StopReasonName(StopReason reason);  // "completed"

struct RunStarted {
  int64_t total_iterations = 0;
  int64_t iterations_per_epoch = 0;
  int64_t rows = 0;
  int64_t start_step = 0;
  int64_t validation_rows = 0;
  int64_t batch_size = 0;       // the actual batch size
  int64_t resumed_batches = 0;  // batches of the first epoch made by the previous run
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
  std::optional<Metrics> validation{};  // after the last complete epoch
};

struct TrainingSummary {
  StopReason stop_reason = StopReason::kUnspecified;
  int64_t iterations = 0;
  int64_t step = 0;
  std::optional<Metrics> metrics{};  // on all rows, with the final parameters
  std::chrono::nanoseconds elapsed{0};
  std::string message{};
  std::optional<Metrics> validation{};
  int64_t best_iteration = 0;  // with early stopping: last iteration of the best epoch
  double best_loss = 0;
  bool restored_best = false;
};

struct TrainingEvent {
  std::string run{};     // models/{id}/runs/{n}
  int64_t sequence = 0;  // from 1
  int64_t dropped = 0;   // events omitted since the previous one
  std::variant<RunStarted, Progress, TrainingSummary> body{};
};

// Called for each event on the calling thread. Returning false ends the call; unless the run is
// detached, this stops it.
using EventCallback = std::function<bool(const TrainingEvent&)>;

struct StepResult {
  int64_t step = 0;
  Metrics metrics{};
  double gradient_norm = 0;
  double learning_rate = 0;
};

// The outputs that Predict() returns. None set: the default for the model's loss.
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

struct EvaluateOptions {
  std::optional<int32_t> top_k{};  // k of top-k accuracy; default 2
  bool summary_only = false;       // return only `metrics`
  std::string dataset{};           // datasets/{id} or just the id, instead of `data`
};

struct ClassMetrics {
  int32_t class_index = 0;
  std::string class_name{};
  double precision = 0;
  double recall = 0;
  double f1 = 0;
  double support = 0;
  std::optional<double> roc_auc{};
};

struct AverageMetrics {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};

struct ClassificationMetrics {
  double accuracy = 0;
  std::optional<double> top_k_accuracy{};
  int32_t top_k = 0;
  std::vector<double> confusion_matrix{};  // classes², [label][prediction], row-major
  std::vector<ClassMetrics> classes{};
  AverageMetrics macro{};
  AverageMetrics weighted{};
  std::optional<double> roc_auc{};
  std::optional<double> log_loss{};
};

struct RegressionMetrics {
  double mean_squared_error = 0;
  double root_mean_squared_error = 0;
  double mean_absolute_error = 0;
  double r2 = 0;
};

struct Evaluation {
  Metrics metrics{};
  int64_t step = 0;
  std::optional<ClassificationMetrics> classification{};
  std::optional<RegressionMetrics> regression{};
};

struct Gradients {
  std::vector<NamedTensor> tensors{};  // names and shapes as in Parameters
  Metrics metrics{};
  double gradient_norm = 0;
  double weight = 0;  // weight of the batch in a mean with others
  int64_t step = 0;
};

struct AppliedGradients {
  int64_t step = 0;
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
};

struct GradCheckOptions {
  std::optional<double> tolerance{};
  std::optional<double> kernel_tolerance{};
  std::optional<int32_t> max_entries_per_tensor{};
  uint64_t seed = 0;
};

// The result of a gradient check: the gradient is proved correct, is wrong, or neither could be
// shown.
enum class GradCheckVerdict { kPassed, kFailed, kInconclusive };

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
  double worst_error_bound = 0;
  double kernel_max_relative_error = 0;  // excess over the rounding-error bound
  double kernel_max_bound_ratio = 0;     // at most 1 for correct kernels
  int64_t unresolved = 0;                // checked, but not decidable within the rounding error
  GradCheckVerdict verdict = GradCheckVerdict::kInconclusive;
  std::string explanation{};  // if not kPassed: the reason, and what to change
  bool passed = false;        // verdict == kPassed
};

struct GradCheckResult {
  bool passed = false;
  std::vector<TensorGradCheck> tensors{};
  double max_relative_error = 0;
  bool sampled = false;
  double loss = 0;
  double tolerance = 0;
  double kernel_tolerance = 0;
  GradCheckVerdict verdict = GradCheckVerdict::kInconclusive;
  std::string explanation{};
  int64_t step = 0;
};

}  // namespace backprop

#endif  // BACKPROP_CLIENT_TRAINING_H_
