// A page of metrics in Prometheus' text format.
#ifndef BACKPROP_SERVER_METRICS_PAGE_H_
#define BACKPROP_SERVER_METRICS_PAGE_H_

#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/base/counters.h"

namespace backprop::metrics {

inline constexpr double kNanosPerSecond = 1e9;

using Labels = std::vector<std::pair<std::string, std::string>>;

// Metrics are added one family after the other: Counter, Gauge or Histogram begins a family, and
// the calls after it add its series.
//
//     page.Counter("backprop_steps_total", "Optimiser steps that changed a model.");
//     page.Add(7, {{"source", "call"}});
//
// A counter's name ends with _total; other names end with their unit. Thread-compatible.
class Page {
 public:
  void Counter(const std::string& name, const std::string& help);
  void Gauge(const std::string& name, const std::string& help);
  void Histogram(const std::string& name, const std::string& help);

  // A series of a counter or a gauge.
  void Add(double value, const Labels& labels = {});
  void Add(int64_t value, const Labels& labels = {}) { Add(static_cast<double>(value), labels); }
  // A series of a histogram: times in nanoseconds, which the page shows in seconds, or sizes.
  void AddTimes(const base::HistogramValues& values, const Labels& labels = {});
  void AddSizes(const base::HistogramValues& values, const Labels& labels = {});

  // The text of all families, in the order in which they were begun.
  std::string Text() const;

 private:
  void Begin(prometheus::MetricType type, const std::string& name, const std::string& help);
  prometheus::ClientMetric* Series(const Labels& labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace backprop::metrics

#endif  // BACKPROP_SERVER_METRICS_PAGE_H_
