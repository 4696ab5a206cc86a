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

#include "backprop/model.h"
#include "backprop/tensor.h"

namespace backprop {

struct Metrics {
  double loss = 0;
  std::optional<double> accuracy{};
  int64_t rows = 0;
};

// Ends a run when the validation loss (the epoch's training loss without validation) does not fall.
struct EarlyStopping {
  int64_t patience = 10;  // epochs
  double min_delta = 0;
  bool restore_best = true;
};

// Which checkpoints a run makes: at least one of the two kinds.
struct CheckpointOptions {
  std::optional<int64_t> every_iterations{};
  std::optional<int32_t> keep_last{};  // of these; default 3
  bool keep_best = false;              // the epoch with the lowest loss
};

// Exactly one of iterations and epochs is given.
struct TrainOptions {
  std::optional<int64_t> iterations{};
  std::optional<int64_t> epochs{};
  std::optional<int32_t> batch_size{};    // default: all rows, which more means too
  std::optional<bool> shuffle{};          // default: with mini-batches
  std::optional<int64_t> report_every{};  // default: a hundredth of the run
  bool detach = false;                    // the run goes on when this call ends
  bool wait = false;                      // wait for a run under way
  // Rows to validate on after every epoch: given, or a share of the data; at most one of the two.
  std::optional<Batch> validation{};
  std::optional<double> validation_split{};
  std::optional<EarlyStopping> early_stopping{};
  // datasets/{id}, or just the id, instead of rows of the call's: `data` and `validation` are not
  // sent.
  std::string dataset{};
  std::string validation_dataset{};
  std::optional<CheckpointOptions> checkpoints{};  // that the run makes by itself
  // Longest time between two reports, at least 1 ms; default 1 s.
  std::optional<std::chrono::nanoseconds> report_interval{};
  // Resume the epoch that the previous run left unfinished, if it was of the same rows and plan.
  bool continue_epoch = false;
  bool redraw_validation_split = false;  // draw the split anew for this run
  std::optional<bool> stratify{};        // the split, by class; default true
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
  int64_t batch_size = 0;       // as used
  int64_t resumed_batches = 0;  // of the first epoch, by the previous run
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
  int64_t best_iteration = 0;  // with early stopping: where the best epoch ended
  double best_loss = 0;
  bool restored_best = false;
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

struct EvaluateOptions {
  std::optional<int32_t> top_k{};  // of top-k accuracy; default 2
  bool summary_only = false;       // `metrics` alone
  std::string dataset{};           // datasets/{id}, or just the id, instead of rows of the call's
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
  std::vector<NamedTensor> tensors{};  // named and shaped as the parameters
  Metrics metrics{};
  double gradient_norm = 0;
  double weight = 0;  // what the batch weighs in a mean with others
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

// What a gradient check found: the gradient is proved, it is wrong, or neither could be shown.
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
  double kernel_max_relative_error = 0;  // in excess of its rounding-error bound
  double kernel_max_bound_ratio = 0;     // at most 1 for correct kernels
  int64_t unresolved = 0;                // checked, but lost in rounding
  GradCheckVerdict verdict = GradCheckVerdict::kInconclusive;
  std::string explanation{};  // why the verdict is not kPassed, and what to change
  bool passed = false;        // whether it is
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
