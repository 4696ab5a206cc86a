// Metrics of predictions. Definitions follow scikit-learn, with sample weights.
#ifndef BACKPROP_SERVER_ENGINE_METRICS_H_
#define BACKPROP_SERVER_ENGINE_METRICS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/network.h"

namespace backprop::engine {

// Scores of one class, or of one output of a multi-label model. A ratio with denominator 0 is 0.
struct ClassScores {
  double precision = 0;  // true positives / predicted positives
  double recall = 0;     // true positives / actual positives
  double f1 = 0;         // harmonic mean of the two
  double support = 0;    // weight of the actual positives
  // Area under the ROC curve of this class against the others; unset if all rows are of one kind.
  std::optional<double> roc_auc;
};

// Means of the scores over all classes that occur among the labels or the predictions; for a
// multi-label model over all outputs.
struct AverageScores {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};

struct ClassificationMetrics {
  double accuracy = 0;                   // multi-label: all k outputs correct
  std::optional<double> top_k_accuracy;  // three or more classes
  std::vector<double> confusion;         // (classes, classes): [label][prediction]; not multi-label
  std::vector<ClassScores> classes;      // one binary output: classes 0 and 1
  AverageScores macro;                   // unweighted mean
  AverageScores weighted;                // weighted by support
  // Binary: of class 1. Otherwise the mean over classes, each against the others; unset if one of
  // them is unset.
  std::optional<double> roc_auc;
  // Mean of −log of the label's probability, with probabilities clipped to [2^-52, 1 − 2^-52].
  // Unset for multi-label models.
  std::optional<double> log_loss;
};

struct RegressionMetrics {
  double mean_squared_error = 0;  // this and the following: mean over outputs
  double root_mean_squared_error = 0;
  double mean_absolute_error = 0;
  // 1 − Σ(z − y)² / Σ(y − ȳ)². If the targets are constant: 1 if they are met exactly, else 0.
  double r2 = 0;
};

// Collects the outputs of a model and computes metrics at the end. If the targets are numbers, the
// label is the class with the largest target; with one binary output it is 1 if the target exceeds
// 0.5. Thread-compatible.
class MetricsCollector {
 public:
  // `network` and `data` must outlive the collector. `top_k` ≥ 1.
  MetricsCollector(const Network& network, const Dataset& data, int64_t top_k);

  // Bytes of memory that a collector holds for `rows` rows.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Adds the outputs (count, k), in the network's precision, of rows [first, first + count) of the
  // data.
  void Add(int64_t first, int64_t count, const std::byte* outputs);

  // Computes the next ROC curve, which sorts all rows; returns false when all curves are computed.
  // Requires that all rows were added.
  bool AdvanceCurves();

  // The metrics of a classifier or of a regression. Require that all rows were added and all curves
  // computed.
  ClassificationMetrics Classification() const;
  RegressionMetrics Regression() const;

 private:
  double Weight(int64_t row) const;
  double Score(int64_t row, int64_t column) const;  // probability of the class or output
  bool IsLabel(int64_t row, int64_t column) const;
  void Multiclass(ClassificationMetrics* out) const;
  void Multilabel(ClassificationMetrics* out) const;

  const Network& network_;
  const Dataset& data_;
  const int64_t top_k_;
  const bool multilabel_;
  const int64_t columns_;        // classes, or outputs
  std::vector<double> scores_;   // (rows, k): probabilities, or a regression's outputs
  std::vector<int32_t> labels_;  // (rows); not multi-label
  std::vector<int32_t> predicted_;
  std::vector<std::optional<double>> curves_;  // areas computed so far, one per column
};

// Area under the ROC curve by the trapezoid rule, with tied scores as one point. Unset if all rows
// are of one kind or a score is NaN. All arguments have the same size; weights ≥ 0.
std::optional<double> RocAuc(std::span<const double> scores, const std::vector<bool>& positive,
                             std::span<const double> weights);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_METRICS_H_
