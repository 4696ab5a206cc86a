// The figures that `backprop top` shows of a server.
#ifndef BACKPROP_CLIENT_CLI_SERVER_FIGURES_H_
#define BACKPROP_CLIENT_CLI_SERVER_FIGURES_H_

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backprop/server_status.h"
#include "client/cli/metrics_text.h"

namespace backprop::cli {

// A status, and when it arrived.
struct Sample {
  ServerStatus status;
  MetricsPage metrics;
  std::chrono::steady_clock::time_point arrival;
};

// Throws DataError if the metrics cannot be parsed.
Sample SampleOf(ServerStatus status, std::chrono::steady_clock::time_point arrival);

// One method. Rates and times are those between two samples.
struct MethodFigures {
  std::string method;
  double calls = 0;  // since the server started
  double in_flight = 0;
  std::optional<double> calls_per_second;
  std::optional<double> errors_per_second;  // calls with another code than OK
  std::optional<double> p50_seconds;
  std::optional<double> p99_seconds;
};

class ServerFigures {
 public:
  // Figures at `after`. Without `before`, or if the server has restarted in between, there are no
  // rates and no quantiles.
  ServerFigures(const std::optional<Sample>& before, const Sample& after);

  // Figures by group and name, as in the table of docs/cli.md: {"runs", {{"active", 3}}}. A figure
  // without a value is not known: the server has no such metric, or a rate needs another sample.
  using Group = std::map<std::string, std::optional<double>>;
  const std::map<std::string, Group>& groups() const { return groups_; }
  // The figure must exist.
  std::optional<double> Get(const std::string& group, const std::string& name) const {
    return groups_.at(group).at(name);
  }

  // Methods that were called since the server started, the ones with most calls per second first.
  const std::vector<MethodFigures>& methods() const { return methods_; }

  // The status at `after`, without its metrics.
  const ServerStatus& status() const { return status_; }
  double uptime_seconds() const;
  // The time between the samples; nothing if there are no rates.
  std::optional<double> interval_seconds() const { return interval_seconds_; }

 private:
  void AddGroups(const Sample* before, const Sample& after);
  void AddMethods(const Sample* before, const Sample& after);

  ServerStatus status_;
  std::optional<double> interval_seconds_;
  std::map<std::string, Group> groups_;
  std::vector<MethodFigures> methods_;
};

}  // namespace backprop::cli

#endif  // BACKPROP_CLIENT_CLI_SERVER_FIGURES_H_
