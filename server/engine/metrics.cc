#include "server/engine/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "server/engine/loss.h"

namespace backprop::engine {
namespace {

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

// Scores from the weights of true positives, predicted positives and actual positives.
ClassScores ScoresOf(double true_positive, double predicted, double support) {
  ClassScores scores;
  scores.precision = Ratio(true_positive, predicted);
  scores.recall = Ratio(true_positive, support);
  scores.f1 = Ratio(2 * true_positive, predicted + support);
  scores.support = support;
  return scores;
}

// Averages over the classes whose `share` is not negative, weighted by `share`.
AverageScores Average(const std::vector<ClassScores>& classes, const std::vector<double>& share) {
  AverageScores sum;
  double whole = 0;
  for (size_t c = 0; c < classes.size(); ++c) {
    sum.precision += share[c] * classes[c].precision;
    sum.recall += share[c] * classes[c].recall;
    sum.f1 += share[c] * classes[c].f1;
    whole += share[c];
  }
  return {Ratio(sum.precision, whole), Ratio(sum.recall, whole), Ratio(sum.f1, whole)};
}

void AverageAll(const std::vector<double>& counted, ClassificationMetrics* out) {
  std::vector<double> supports;
  for (const ClassScores& scores : out->classes) supports.push_back(scores.support);
  out->macro = Average(out->classes, counted);
  out->weighted = Average(out->classes, supports);
}

}  // namespace

std::optional<double> RocAuc(std::span<const double> scores, const std::vector<bool>& positive,
                             std::span<const double> weights) {
  if (std::any_of(scores.begin(), scores.end(), [](double x) { return std::isnan(x); })) {
    return std::nullopt;  // NaN cannot be ordered
  }
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  double true_positive = 0;
  double false_positive = 0;
  double area = 0;
  for (size_t i = 0; i < order.size();) {
    const double true_before = true_positive;
    const double false_before = false_positive;
    const double score = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == score; ++i) {
      (positive[order[i]] ? true_positive : false_positive) += weights[order[i]];
    }
    area += (false_positive - false_before) * (true_positive + true_before) / 2;
  }
  if (true_positive == 0 || false_positive == 0) return std::nullopt;
  return area / true_positive / false_positive;
}

MetricsCollector::MetricsCollector(const Network& network, const Dataset& data, int64_t top_k)
    : network_(network),
      data_(data),
      top_k_(top_k),
      multilabel_(network.spec().loss.kind == Loss::kBinaryCrossEntropy && network.outputs() > 1),
      columns_(network.spec().loss.kind == Loss::kBinaryCrossEntropy && network.outputs() == 1
                   ? 2
                   : network.outputs()),
      scores_(static_cast<size_t>(data.rows * network.outputs())) {
  if (!Classifies(network.spec().loss.kind) || multilabel_) return;
  labels_.resize(static_cast<size_t>(data.rows));
  predicted_.resize(static_cast<size_t>(data.rows));
}

int64_t MetricsCollector::BytesNeeded(const Network& network, int64_t rows) {
  // Scores, labels, predictions, and the copies that one ROC curve sorts.
  return rows * (8 * network.outputs() + 2 * 4 + 3 * 8);
}

void MetricsCollector::Add(int64_t first, int64_t count, const std::byte* outputs) {
  const int64_t k = network_.outputs();
  const Loss loss = network_.spec().loss.kind;
  double* scores = scores_.data() + first * k;
  for (int64_t i = 0; i < count * k; ++i) {
    scores[i] = network_.spec().data_type == DataType::kFloat32
                    ? static_cast<double>(reinterpret_cast<const float*>(outputs)[i])
                    : reinterpret_cast<const double*>(outputs)[i];
  }
  if (!Classifies(loss)) return;
  if (!multilabel_) {
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(first + i);
      predicted_[at] = PredictedClass(loss, scores + i * k, k);
      if (!data_.classes.empty()) {
        labels_[at] = data_.classes[at];
      } else if (loss == Loss::kBinaryCrossEntropy) {
        labels_[at] = data_.targets.Get(first + i) > 0.5 ? 1 : 0;
      } else {
        for (int64_t j = 1; j < k; ++j) {
          const int64_t row = (first + i) * k;
          if (data_.targets.Get(row + j) > data_.targets.Get(row + labels_[at])) {
            labels_[at] = static_cast<int32_t>(j);
          }
        }
      }
    }
  }
  Probabilities(loss, scores, scores, count, k);
}

double MetricsCollector::Weight(int64_t row) const {
  return data_.sample_weights.count() == 0 ? 1 : data_.sample_weights.Get(row);
}

double MetricsCollector::Score(int64_t row, int64_t column) const {
  const int64_t k = network_.outputs();
  if (columns_ == k) return scores_[static_cast<size_t>(row * k + column)];
  const double one = scores_[static_cast<size_t>(row)];
  return column == 1 ? one : 1 - one;
}

bool MetricsCollector::IsLabel(int64_t row, int64_t column) const {
  if (multilabel_) return data_.targets.Get(row * columns_ + column) > 0.5;
  return labels_[static_cast<size_t>(row)] == column;
}

bool MetricsCollector::AdvanceCurves() {
  if (!Classifies(network_.spec().loss.kind)) return false;
  const auto column = static_cast<int64_t>(curves_.size());
  std::vector<double> scores, weights;
  std::vector<bool> positive;
  for (int64_t i = 0; i < data_.rows; ++i) {
    scores.push_back(Score(i, column));
    weights.push_back(Weight(i));
    positive.push_back(IsLabel(i, column));
  }
  curves_.push_back(RocAuc(scores, positive, weights));
  return static_cast<int64_t>(curves_.size()) < columns_;
}

ClassificationMetrics MetricsCollector::Classification() const {
  ClassificationMetrics out;
  if (multilabel_) {
    Multilabel(&out);
  } else {
    Multiclass(&out);
  }
  double sum = 0;
  bool all = true;
  for (size_t c = 0; c < curves_.size(); ++c) {
    out.classes[c].roc_auc = curves_[c];
    all = all && curves_[c].has_value();
    sum += curves_[c].value_or(0);
  }
  if (columns_ == 2 && !multilabel_) {
    out.roc_auc = curves_[1];
  } else if (all) {
    out.roc_auc = sum / static_cast<double>(columns_);
  }
  return out;
}

void MetricsCollector::Multiclass(ClassificationMetrics* out) const {
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  const auto classes = static_cast<size_t>(columns_);
  out->confusion.assign(classes * classes, 0);
  double weight = 0;
  double right = 0;
  double in_top = 0;
  double log_loss = 0;
  for (int64_t i = 0; i < data_.rows; ++i) {
    const double s = Weight(i);
    const auto label = static_cast<size_t>(labels_[static_cast<size_t>(i)]);
    const auto predicted = static_cast<size_t>(predicted_[static_cast<size_t>(i)]);
    weight += s;
    if (label == predicted) right += s;
    out->confusion[label * classes + predicted] += s;
    const double p = Score(i, static_cast<int64_t>(label));
    log_loss -= s * std::log(std::clamp(p, kEpsilon, 1 - kEpsilon));
    int64_t above = 0;  // of equal scores, scikit-learn ranks the last class first
    for (int64_t j = 0; j < columns_; ++j) {
      const double other = Score(i, j);
      above += other > p || (other == p && j > static_cast<int64_t>(label));
    }
    if (above < top_k_) in_top += s;
  }
  out->accuracy = Ratio(right, weight);
  out->log_loss = Ratio(log_loss, weight);
  if (classes > 2) out->top_k_accuracy = Ratio(in_top, weight);
  std::vector<double> occurs;
  for (size_t c = 0; c < classes; ++c) {
    double predicted = 0;
    double support = 0;
    for (size_t j = 0; j < classes; ++j) {
      predicted += out->confusion[j * classes + c];
      support += out->confusion[c * classes + j];
    }
    out->classes.push_back(ScoresOf(out->confusion[c * classes + c], predicted, support));
    occurs.push_back(predicted + support > 0 ? 1 : 0);
  }
  AverageAll(occurs, out);
}

void MetricsCollector::Multilabel(ClassificationMetrics* out) const {
  std::vector<bool> all_right(static_cast<size_t>(data_.rows), true);
  for (int64_t j = 0; j < columns_; ++j) {
    double true_positive = 0;
    double predicted = 0;
    double support = 0;
    for (int64_t i = 0; i < data_.rows; ++i) {
      const bool says = Score(i, j) > 0.5;
      const bool is = IsLabel(i, j);
      if (says != is) all_right[static_cast<size_t>(i)] = false;
      if (says && is) true_positive += Weight(i);
      if (says) predicted += Weight(i);
      if (is) support += Weight(i);
    }
    out->classes.push_back(ScoresOf(true_positive, predicted, support));
  }
  double weight = 0;
  double right = 0;
  for (int64_t i = 0; i < data_.rows; ++i) {
    weight += Weight(i);
    if (all_right[static_cast<size_t>(i)]) right += Weight(i);
  }
  out->accuracy = Ratio(right, weight);
  AverageAll(std::vector<double>(static_cast<size_t>(columns_), 1), out);
}

RegressionMetrics MetricsCollector::Regression() const {
  RegressionMetrics out;
  const auto k = static_cast<double>(columns_);
  double weight = 0;
  for (int64_t i = 0; i < data_.rows; ++i) weight += Weight(i);
  for (int64_t j = 0; j < columns_; ++j) {
    double squares = 0;
    double absolute = 0;
    double sum = 0;
    for (int64_t i = 0; i < data_.rows; ++i) {
      const double y = data_.targets.Get(i * columns_ + j);
      const double d = Score(i, j) - y;
      squares += Weight(i) * d * d;
      absolute += Weight(i) * std::abs(d);
      sum += Weight(i) * y;
    }
    const double mean = Ratio(sum, weight);
    double spread = 0;
    for (int64_t i = 0; i < data_.rows; ++i) {
      const double y = data_.targets.Get(i * columns_ + j);
      spread += Weight(i) * (y - mean) * (y - mean);
    }
    out.mean_squared_error += Ratio(squares, weight) / k;
    out.root_mean_squared_error += std::sqrt(Ratio(squares, weight)) / k;
    out.mean_absolute_error += Ratio(absolute, weight) / k;
    // The largest spread of equal targets that the rounding of their mean can cause.
    const double rounding =
        std::numeric_limits<double>::epsilon() * static_cast<double>(data_.rows) * mean;
    const double constant = squares == 0 ? 1 : 0;
    out.r2 += (spread > weight * rounding * rounding ? 1 - squares / spread : constant) / k;
  }
  return out;
}

}  // namespace backprop::engine
