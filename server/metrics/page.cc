#include "server/metrics/page.h"

#include <prometheus/text_serializer.h>

namespace backprop::metrics {
namespace {

// Prometheus counts the values up to each bound, and we count those of each bucket.
template <class Bounds>
prometheus::ClientMetric::Histogram Cumulative(const base::HistogramValues& values,
                                               const Bounds& bounds, double unit) {
  prometheus::ClientMetric::Histogram histogram;
  int64_t up_to_bound = 0;
  for (size_t i = 0; i < bounds.size(); ++i) {
    up_to_bound += values.counts[i];
    prometheus::ClientMetric::Bucket bucket;
    bucket.cumulative_count = static_cast<uint64_t>(up_to_bound);
    bucket.upper_bound = static_cast<double>(bounds[i]) / unit;
    histogram.bucket.push_back(bucket);
  }
  histogram.sample_count = static_cast<uint64_t>(values.count());
  histogram.sample_sum = static_cast<double>(values.sum) / unit;
  return histogram;
}

}  // namespace

void Page::Begin(prometheus::MetricType type, const std::string& name, const std::string& help) {
  prometheus::MetricFamily& family = families_.emplace_back();
  family.name = name;
  family.help = help;
  family.type = type;
}

void Page::Counter(const std::string& name, const std::string& help) {
  Begin(prometheus::MetricType::Counter, name, help);
}
void Page::Gauge(const std::string& name, const std::string& help) {
  Begin(prometheus::MetricType::Gauge, name, help);
}
void Page::Histogram(const std::string& name, const std::string& help) {
  Begin(prometheus::MetricType::Histogram, name, help);
}

prometheus::ClientMetric* Page::Series(const Labels& labels) {
  prometheus::ClientMetric& series = families_.back().metric.emplace_back();
  for (const auto& [name, value] : labels) {
    prometheus::ClientMetric::Label label;
    label.name = name;
    label.value = value;
    series.label.push_back(std::move(label));
  }
  return &series;
}

void Page::Add(double value, const Labels& labels) {
  prometheus::ClientMetric* const series = Series(labels);
  if (families_.back().type == prometheus::MetricType::Counter) {
    series->counter.value = value;
  } else {
    series->gauge.value = value;
  }
}

void Page::AddTimes(const base::HistogramValues& values, const Labels& labels) {
  Series(labels)->histogram = Cumulative(values, base::kTimeBoundsNanos, kNanosPerSecond);
}
void Page::AddSizes(const base::HistogramValues& values, const Labels& labels) {
  Series(labels)->histogram = Cumulative(values, base::kSizeBounds, 1);
}

std::string Page::Text() const { return prometheus::TextSerializer().Serialize(families_); }

}  // namespace backprop::metrics
