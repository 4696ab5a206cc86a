// Metrics in Prometheus' text format, and what two of their pages say about the time between them.
#ifndef BACKPROP_CLIENT_CLI_METRICS_TEXT_H_
#define BACKPROP_CLIENT_CLI_METRICS_TEXT_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace backprop::cli {

using MetricLabels = std::map<std::string, std::string>;

// The number of values at most as large as each bound; the last bound is infinite.
using CumulativeCounts = std::map<double, double>;

// One page of metrics. Values of series that a query selects are added up.
class MetricsPage {
 public:
  // Throws DataError, which names the line, if the text is not in the format.
  static MetricsPage Parse(std::string_view text);

  // Selects series of a metric that have all of `with` and none of `without`.
  struct Query {
    std::string name;
    MetricLabels with{};
    MetricLabels without{};
  };

  // The sum of the series; 0 if the page has the metric but no such series, because series appear
  // when they are first counted; nothing if the page does not have the metric.
  std::optional<double> Sum(const Query& query) const;
  // Counts of a histogram of this name. Empty if the page does not have it.
  CumulativeCounts Histogram(const std::string& name, const MetricLabels& with = {}) const;
  // The values that a label has in the series of a metric, sorted.
  std::set<std::string> LabelValues(const std::string& name, const std::string& label) const;

 private:
  struct Series {
    MetricLabels labels;
    double value;
  };

  std::set<std::string> families_;                     // names of "# TYPE" lines
  std::map<std::string, std::vector<Series>> series_;  // by the name of the sample
};

// Growth of a counter from `before` to `after`, per second. Nothing if a page does not have it, if
// it has become smaller (the server restarted), or if `seconds` is not positive.
std::optional<double> RateBetween(const MetricsPage& before, const MetricsPage& after,
                                  const MetricsPage::Query& counter, double seconds);

// The counts that were added between two pages; empty if one of them does not have the histogram,
// or if a count has become smaller.
CumulativeCounts CountsBetween(const CumulativeCounts& before, const CumulativeCounts& after);

// The value below which a share `q`, from 0 to 1, of the counted values is, as histogram_quantile()
// of Prometheus: values are assumed to be spread evenly within their bucket, and above the last
// finite bound it is that bound. Nothing if nothing was counted.
std::optional<double> Quantile(const CumulativeCounts& counts, double q);

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_METRICS_TEXT_H_
