#include "client/cli/server_figures.h"

#include <algorithm>
#include <utility>

namespace backprop::cli {
namespace {

constexpr char kTimes[] = "backprop_request_duration_seconds";

// How a figure is made of metrics.
enum class Kind {
  kValue,  // the value at the last sample
  kRate,   // growth per second
  kP50,    // quantiles of a histogram between the samples
  kP99,
};

struct Figure {
  const char* group;
  const char* name;
  Kind kind;
  MetricsPage::Query metric;
};

const std::vector<Figure>& Figures() {
  const MetricLabels interactive = {{"class", "interactive"}};
  const MetricLabels background = {{"class", "background"}};
  const MetricLabels predict = {{"use", "predict"}};
  static const auto* const figures = new std::vector<Figure>{
      {"calls", "perSecond", Kind::kRate, {"backprop_request_duration_seconds_count"}},
      {"calls", "errorsPerSecond", Kind::kRate, {"backprop_requests_total", {}, {{"code", "OK"}}}},
      {"calls", "refusalsPerSecond", Kind::kRate, {"backprop_refusals_total"}},
      {"calls", "inFlight", Kind::kValue, {"backprop_requests_in_flight"}},
      {"work", "stepsPerSecond", Kind::kRate, {"backprop_steps_total"}},
      {"work", "trainedRowsPerSecond", Kind::kRate, {"backprop_rows_total", {}, predict}},
      {"work", "predictedRowsPerSecond", Kind::kRate, {"backprop_rows_total", predict}},
      {"runs", "active", Kind::kValue, {"backprop_runs_active"}},
      {"runs", "endedPerSecond", Kind::kRate, {"backprop_runs_ended_total"}},
      {"models", "stored", Kind::kValue, {"backprop_models"}},
      {"models", "resident", Kind::kValue, {"backprop_models_resident"}},
      {"models", "loadsPerSecond", Kind::kRate, {"backprop_model_load_seconds_count"}},
      {"models", "evictionsPerSecond", Kind::kRate, {"backprop_model_evictions_total"}},
      {"datasets", "complete", Kind::kValue, {"backprop_datasets"}},
      {"datasets", "uploads", Kind::kValue, {"backprop_uploads_active"}},
      {"pool", "threads", Kind::kValue, {"backprop_pool_threads"}},
      {"pool",
       "interactiveBusyThreads",
       Kind::kRate,
       {"backprop_pool_busy_seconds_total", interactive}},
      {"pool",
       "backgroundBusyThreads",
       Kind::kRate,
       {"backprop_pool_busy_seconds_total", background}},
      {"queue", "interactiveWaiting", Kind::kValue, {"backprop_pool_waiting_tasks", interactive}},
      {"queue", "backgroundWaiting", Kind::kValue, {"backprop_pool_waiting_tasks", background}},
      {"queue", "interactiveP50Seconds", Kind::kP50, {"backprop_pool_wait_seconds", interactive}},
      {"queue", "interactiveP99Seconds", Kind::kP99, {"backprop_pool_wait_seconds", interactive}},
      {"queue", "backgroundP50Seconds", Kind::kP50, {"backprop_pool_wait_seconds", background}},
      {"queue", "backgroundP99Seconds", Kind::kP99, {"backprop_pool_wait_seconds", background}},
      {"store", "healthy", Kind::kValue, {"backprop_store_healthy"}},
      {"store", "changesPerSecond", Kind::kRate, {"backprop_store_group_changes_sum"}},
      {"store", "groupsPerSecond", Kind::kRate, {"backprop_store_group_changes_count"}},
      {"store", "refusedChangesPerSecond", Kind::kRate, {"backprop_store_refused_changes_total"}},
      {"store", "writtenBytesPerSecond", Kind::kRate, {"backprop_store_written_bytes_total"}},
      {"store", "commitP50Seconds", Kind::kP50, {"backprop_store_commit_seconds"}},
      {"store", "commitP99Seconds", Kind::kP99, {"backprop_store_commit_seconds"}},
      {"store", "syncP50Seconds", Kind::kP50, {"backprop_store_sync_seconds"}},
      {"store", "syncP99Seconds", Kind::kP99, {"backprop_store_sync_seconds"}},
      {"store", "diskBytes", Kind::kValue, {"backprop_store_disk_bytes"}},
      {"store", "freeDiskBytes", Kind::kValue, {"backprop_store_disk_free_bytes"}},
      {"memory", "residentBytes", Kind::kValue, {"process_resident_memory_bytes"}},
      {"memory", "limitBytes", Kind::kValue, {"backprop_memory_limit_bytes"}},
      {"memory", "modelsBytes", Kind::kValue, {"backprop_memory_models_bytes"}},
      {"memory", "workBytes", Kind::kValue, {"backprop_memory_work_bytes"}},
      {"process", "cpuCores", Kind::kRate, {"process_cpu_seconds_total"}},
      {"process", "connections", Kind::kValue, {"backprop_connections_open"}},
      {"process", "openFiles", Kind::kValue, {"process_open_fds"}},
  };
  return *figures;
}

double SecondsBetween(const Sample& before, const Sample& after) {
  return std::chrono::duration<double>(after.arrival - before.arrival).count();
}

std::optional<double> QuantileBetween(const Sample& before, const Sample& after,
                                      const std::string& histogram, const MetricLabels& with,
                                      double q) {
  return Quantile(CountsBetween(before.metrics.Histogram(histogram, with),
                                after.metrics.Histogram(histogram, with)),
                  q);
}

// `before` is null if there is no earlier sample of the same process.
std::optional<double> ValueOf(const Figure& figure, const Sample* before, const Sample& after) {
  if (figure.kind == Kind::kValue) return after.metrics.Sum(figure.metric);
  if (before == nullptr) return std::nullopt;
  if (figure.kind == Kind::kRate) {
    return RateBetween(before->metrics, after.metrics, figure.metric,
                       SecondsBetween(*before, after));
  }
  return QuantileBetween(*before, after, figure.metric.name, figure.metric.with,
                         figure.kind == Kind::kP50 ? 0.5 : 0.99);
}

}  // namespace

Sample SampleOf(ServerStatus status, std::chrono::steady_clock::time_point arrival) {
  MetricsPage metrics = MetricsPage::Parse(status.metrics);
  return {std::move(status), std::move(metrics), arrival};
}

ServerFigures::ServerFigures(const std::optional<Sample>& before, const Sample& after)
    : status_(after.status) {
  status_.metrics.clear();
  const bool same_process =
      before.has_value() && before->status.start_time == after.status.start_time;
  const Sample* const earlier = same_process ? &*before : nullptr;
  if (earlier != nullptr) interval_seconds_ = SecondsBetween(*earlier, after);
  AddGroups(earlier, after);
  AddMethods(earlier, after);
}

void ServerFigures::AddGroups(const Sample* before, const Sample& after) {
  for (const Figure& figure : Figures()) {
    groups_[figure.group][figure.name] = ValueOf(figure, before, after);
  }
}

void ServerFigures::AddMethods(const Sample* before, const Sample& after) {
  const std::string count = std::string(kTimes) + "_count";
  for (const std::string& method : after.metrics.LabelValues(count, "method")) {
    const MetricLabels labels = {{"method", method}};
    MethodFigures figures;
    figures.method = method;
    figures.calls = after.metrics.Sum({count, labels}).value_or(0);
    figures.in_flight = after.metrics.Sum({"backprop_requests_in_flight", labels}).value_or(0);
    if (figures.calls == 0 && figures.in_flight == 0) continue;
    if (before != nullptr) {
      const double seconds = SecondsBetween(*before, after);
      figures.calls_per_second =
          RateBetween(before->metrics, after.metrics, {count, labels}, seconds);
      figures.errors_per_second =
          RateBetween(before->metrics, after.metrics,
                      {"backprop_requests_total", labels, {{"code", "OK"}}}, seconds);
      figures.p50_seconds = QuantileBetween(*before, after, kTimes, labels, 0.5);
      figures.p99_seconds = QuantileBetween(*before, after, kTimes, labels, 0.99);
    }
    methods_.push_back(std::move(figures));
  }
  // Methods with the same rate stay in the order of their names.
  std::stable_sort(methods_.begin(), methods_.end(),
                   [](const MethodFigures& a, const MethodFigures& b) {
                     return a.calls_per_second.value_or(0) > b.calls_per_second.value_or(0);
                   });
}

double ServerFigures::uptime_seconds() const {
  return std::chrono::duration<double>(status_.status_time - status_.start_time).count();
}

}  // namespace backprop::cli
