// Small cases computed by hand; tests/parity checks agreement with scikit-learn on larger ones.
#include "server/engine/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace backprop::engine {
namespace {

Network NetworkOf(Loss loss, int64_t outputs) {
  NetworkSpec spec;
  spec.layers.resize(1);
  spec.layers[0].units = outputs;
  spec.loss.kind = loss;
  spec.data_type = DataType::kFloat64;
  return Network(spec);
}

Dataset Labelled(std::vector<int32_t> classes) {
  Dataset data;
  data.rows = static_cast<int64_t>(classes.size());
  data.classes = std::move(classes);
  return data;
}

Dataset Targeted(int64_t rows, const std::vector<double>& targets) {
  Dataset data;
  data.rows = rows;
  data.targets_per_row = static_cast<int64_t>(targets.size()) / rows;
  data.targets = Buffer(DataType::kFloat64, static_cast<int64_t>(targets.size()));
  for (size_t i = 0; i < targets.size(); ++i) data.targets.Set(static_cast<int64_t>(i), targets[i]);
  return data;
}

void Weigh(const std::vector<double>& weights, Dataset* data) {
  data->sample_weights = Buffer(DataType::kFloat64, static_cast<int64_t>(weights.size()));
  for (size_t i = 0; i < weights.size(); ++i) {
    data->sample_weights.Set(static_cast<int64_t>(i), weights[i]);
  }
}

MetricsCollector Collect(const Network& network, const Dataset& data,
                         const std::vector<double>& outputs, int64_t top_k = 2) {
  MetricsCollector collector(network, data, top_k);
  // In two parts, as in a server.
  const int64_t first = data.rows / 2;
  const auto* bytes = reinterpret_cast<const std::byte*>(outputs.data());
  collector.Add(0, first, bytes);
  collector.Add(first, data.rows - first, bytes + first * network.outputs() * 8);
  while (collector.AdvanceCurves()) {
  }
  return collector;
}

TEST(MetricsTest, ThreeClassesByHand) {
  const Network network = NetworkOf(Loss::kSoftmaxCrossEntropy, 3);
  const Dataset data = Labelled({0, 0, 1, 2});
  const double low = std::log(0.2), mid = std::log(0.3), high = std::log(0.5);
  const auto metrics =
      Collect(network, data, {high, low, mid, mid, high, low, low, high, mid, high, mid, low})
          .Classification();
  EXPECT_EQ(metrics.accuracy, 0.5);
  EXPECT_EQ(metrics.confusion, (std::vector<double>{1, 1, 0, 0, 1, 0, 1, 0, 0}));
  EXPECT_EQ(metrics.classes[0].precision, 0.5);
  EXPECT_EQ(metrics.classes[0].recall, 0.5);
  EXPECT_EQ(metrics.classes[1].precision, 0.5);
  EXPECT_EQ(metrics.classes[1].recall, 1);
  EXPECT_NEAR(metrics.classes[1].f1, 2.0 / 3, 1e-15);
  EXPECT_EQ(metrics.classes[2].f1, 0) << "the class was never predicted";
  EXPECT_NEAR(metrics.macro.recall, 0.5, 1e-15);
  EXPECT_NEAR(metrics.weighted.recall, 0.5, 1e-15);
  EXPECT_NEAR(metrics.weighted.f1, (2 * 0.5 + 2.0 / 3 + 0) / 4, 1e-15);
  EXPECT_EQ(metrics.top_k_accuracy, 0.75);
  EXPECT_NEAR(*metrics.log_loss, -(2 * high + mid + low) / 4, 1e-15);
  EXPECT_EQ(metrics.classes[2].roc_auc, 1.0 / 6) << "lower than two of three scores, equal to one";
}

TEST(MetricsTest, AbsentClassesAreOmittedFromMacroMeansAndCurves) {
  const Network network = NetworkOf(Loss::kSoftmaxCrossEntropy, 3);
  const Dataset data = Labelled({0, 1});
  const auto metrics = Collect(network, data, {2, 1, 0, 0, 2, 1}).Classification();
  EXPECT_EQ(metrics.macro.f1, 1);
  EXPECT_FALSE(metrics.classes[2].roc_auc.has_value());
  EXPECT_FALSE(metrics.roc_auc.has_value());
}

TEST(MetricsTest, BinaryOutputsAreTwoClasses) {
  const Network network = NetworkOf(Loss::kBinaryCrossEntropy, 1);
  const Dataset data = Labelled({0, 1, 1, 0});
  const auto metrics = Collect(network, data, {-2, 3, -1, 1}).Classification();
  EXPECT_EQ(metrics.accuracy, 0.5);
  EXPECT_EQ(metrics.confusion, (std::vector<double>{1, 1, 1, 1}));
  EXPECT_EQ(*metrics.roc_auc, 0.75);
  EXPECT_FALSE(metrics.top_k_accuracy.has_value());
}

TEST(MetricsTest, SeveralBinaryOutputsAreLabels) {
  const Network network = NetworkOf(Loss::kBinaryCrossEntropy, 2);
  const Dataset data = Targeted(3, {1, 0, 0, 1, 1, 1});
  const auto metrics = Collect(network, data, {2, -1, -3, 4, 1, -2}).Classification();
  EXPECT_NEAR(metrics.accuracy, 2.0 / 3, 1e-15);
  EXPECT_EQ(metrics.classes[0].f1, 1);
  EXPECT_EQ(metrics.classes[1].recall, 0.5);
  EXPECT_EQ(metrics.macro.recall, 0.75);
  EXPECT_TRUE(metrics.confusion.empty());
  EXPECT_FALSE(metrics.log_loss.has_value());
}

TEST(MetricsTest, TiesCountHalfInTheCurve) {
  const std::vector<double> ones(4, 1);
  EXPECT_EQ(RocAuc(std::vector<double>{1, 1, 1, 1}, {true, false, true, false}, ones), 0.5);
  EXPECT_EQ(RocAuc(std::vector<double>{2, 1, 1, 0}, {true, true, false, false}, ones), 0.875);
  EXPECT_EQ(RocAuc(std::vector<double>{2, 1, 1, 0}, {true, true, true, true}, ones), std::nullopt);
  EXPECT_EQ(RocAuc(std::vector<double>{NAN, 1, 1, 0}, {true, true, false, false}, ones),
            std::nullopt);
}

TEST(MetricsTest, RegressionByHand) {
  const Network network = NetworkOf(Loss::kMeanSquaredError, 2);
  const Dataset data = Targeted(3, {1, 5, 2, 5, 3, 5});
  const auto metrics = Collect(network, data, {1, 5, 2, 5, 5, 5}).Regression();
  EXPECT_NEAR(metrics.mean_squared_error, 4.0 / 3 / 2, 1e-15);
  EXPECT_NEAR(metrics.root_mean_squared_error, std::sqrt(4.0 / 3) / 2, 1e-15);
  EXPECT_NEAR(metrics.mean_absolute_error, 2.0 / 3 / 2, 1e-15);
  EXPECT_NEAR(metrics.r2, (1 - 4.0 / 2 + 1) / 2, 1e-15) << "constant targets, met exactly: 1";
}

// A weight of 2 counts the row twice, a weight of 0 not at all.
TEST(MetricsTest, WeightsRepeatRows) {
  const Network network = NetworkOf(Loss::kSoftmaxCrossEntropy, 3);
  Dataset weighted = Labelled({0, 1, 2, 1});
  Weigh({2, 1, 1, 0}, &weighted);
  const Dataset repeated = Labelled({0, 0, 1, 2});
  const auto a = Collect(network, weighted, {3, 1, 2, 1, 0, 2, 1, 0, 4, 9, 9, 9}).Classification();
  const auto b = Collect(network, repeated, {3, 1, 2, 3, 1, 2, 1, 0, 2, 1, 0, 4}).Classification();
  EXPECT_EQ(a.accuracy, b.accuracy);
  EXPECT_EQ(a.confusion, b.confusion);
  EXPECT_EQ(a.macro.f1, b.macro.f1);
  EXPECT_EQ(a.weighted.precision, b.weighted.precision);
  EXPECT_EQ(a.roc_auc, b.roc_auc);
  EXPECT_EQ(a.top_k_accuracy, b.top_k_accuracy);
  EXPECT_NEAR(*a.log_loss, *b.log_loss, 1e-15);
}

}  // namespace
}  // namespace backprop::engine
