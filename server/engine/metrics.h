// What is measured of predictions. Definitions are scikit-learn's, samples weighted.
#ifndef BACKPROP_SERVER_ENGINE_METRICS_H_
#define BACKPROP_SERVER_ENGINE_METRICS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/engine/data.h"
#include "server/engine/network.h"

namespace backprop::engine {

// Of one class, or of one output of a multi-label model. A ratio with denominator 0 is 0.
struct ClassScores {
  double precision = 0;  // right among those predicted so
  double recall = 0;     // found among those that are so
  double f1 = 0;         // harmonic mean of the two
  double support = 0;    // weight of those that are so
  // Area under the ROC curve of this class against the rest; unset unless there are both.
  std::optional<double> roc_auc;
};

// Means of the scores of all classes that occur among the labels or the predictions; of a
// multi-label model of all outputs.
struct AverageScores {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};

struct ClassificationMetrics {
  double accuracy = 0;                   // multi-label: all k answers right
  std::optional<double> top_k_accuracy;  // with three classes or more
  std::vector<double> confusion;         // (classes, classes): [label][prediction]; not multi-label
  std::vector<ClassScores> classes;      // for one binary output: classes 0 and 1
  AverageScores macro;                   // plain mean
  AverageScores weighted;                // by support
  // Binary: of class 1; else mean over classes, each against the rest. Unset if one is.
  std::optional<double> roc_auc;
  // Mean of −log of the label's probability, probabilities kept 2^-52 away from 0 and 1. Not
  // multi-label.
  std::optional<double> log_loss;
};

struct RegressionMetrics {
  double mean_squared_error = 0;  // each the mean over outputs
  double root_mean_squared_error = 0;
  double mean_absolute_error = 0;
  // 1 − Σ(z − y)² / Σ(y − ȳ)²; where the targets are constant 1 if they are met exactly, else 0.
  double r2 = 0;
};

// Collects outputs and measures them at the end. With class targets the largest is the label.
// Thread-compatible.
class MetricsCollector {
 public:
  // `data` must outlive the collector. `top_k` ≥ 1.
  MetricsCollector(const Network& network, const Dataset& data, int64_t top_k);

  // Bytes it holds for `rows` rows.
  static int64_t BytesNeeded(const Network& network, int64_t rows);

  // Rows [first, first + count) of the data had these outputs z (count, k), of the network's
  // precision.
  void Add(int64_t first, int64_t count, const std::byte* outputs);

  // The ROC curves, one after the other, since each sorts all rows: false when all are done. After
  // all rows were added.
  bool AdvanceCurves();

  // After all rows and curves. Of a model that classifies, or does not.
  ClassificationMetrics Classification() const;
  RegressionMetrics Regression() const;

 private:
  double Weight(int64_t row) const;
  double Score(int64_t row, int64_t column) const;  // probability of a class, or of an output
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
  std::vector<std::optional<double>> curves_;  // areas so far, of each column
};

// Area under the ROC curve by the trapezoid rule, ties taken together; unset without both kinds of
// rows. All spans have one size; weights ≥ 0.
std::optional<double> RocAuc(std::span<const double> scores, const std::vector<bool>& positive,
                             std::span<const double> weights);

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_METRICS_H_
