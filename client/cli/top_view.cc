#include "client/cli/top_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "client/cli/json_output.h"
#include "client/cli/live_line.h"
#include "client/cli/text_table.h"
#include "client/cli/utf8.h"

namespace backprop::cli {
namespace {

constexpr size_t kLabelWidth = 11;

template <class... Args>
std::string Format(const char* format, Args... args) {
  char text[128];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

std::string Scaled(double value, const char* whole) {
  if (value >= 999.95e6) return Format("%.1fG", value / 1e9);
  if (value >= 999.95e3) return Format("%.1fM", value / 1e6);
  if (value >= 9999.5) return Format("%.1fk", value / 1e3);
  return Format(whole, value);
}

std::string ShownPercent(std::optional<double> part, std::optional<double> all) {
  if (!part.has_value() || !all.has_value() || !(*all > 0)) return "-";
  return Format("%.0f%%", 100 * *part / *all);
}

std::string Uptime(double seconds) {
  if (seconds < 120) return Format("%.0f s", std::max(seconds, 0.0));
  if (seconds < 7200) return Format("%.0f min", seconds / 60);
  if (seconds < 48 * 3600) return Format("%.1f h", seconds / 3600);
  return Format("%.1f d", seconds / 86400);
}

// 2026-11-27T15:04:05Z.
std::string Utc(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts = {};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Text of the server for a cell or a line.
std::string OneLine(const std::string& text) {
  std::string line = Printable(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

// What is not serving, with the reasons; "" if all is well.
std::string Troubles(const ServerStatus& status) {
  std::string text;
  for (const ServiceHealth& health : status.health) {
    if (health.serving) continue;
    text += (text.empty() ? "" : "; ") +
            (health.service.empty() ? std::string("NOT_SERVING") : health.service) +
            (health.reason.empty() ? "" : ": " + health.reason);
  }
  return OneLine(text);
}

class Rows {
 public:
  Rows(const ServerFigures& figures, size_t width) : figures_(figures), width_(width) {}

  void Add(const char* label, const std::vector<LinePart>& parts) {
    const std::string start = std::string(label) + std::string(kLabelWidth, ' ');
    const size_t left = std::max(width_, kLabelWidth) - kLabelWidth;
    const std::string line = start.substr(0, kLabelWidth) + (left == 0 ? "" : FitLine(parts, left));
    lines_.push_back(TextStart(line, width_));
  }
  void AddLine(const std::string& line) { lines_.push_back(TextStart(line, width_)); }

  // Texts of figures. A rate has "/s".
  std::string Rate(const char* group, const char* name, const char* what) const {
    return ShownNumber(figures_.Get(group, name)) + " " + what + "/s";
  }
  std::string Count(const char* group, const char* name) const {
    return ShownCount(figures_.Get(group, name));
  }
  std::string Seconds(const char* group, const char* name) const {
    return ShownSeconds(figures_.Get(group, name));
  }
  std::string Bytes(const char* group, const char* name) const {
    return ShownBytes(figures_.Get(group, name));
  }

  std::vector<std::string> lines() && { return std::move(lines_); }

 private:
  const ServerFigures& figures_;
  const size_t width_;
  std::vector<std::string> lines_;
};

void AddHead(const ServerFigures& figures, const std::string& note, Rows* rows) {
  const ServerStatus& status = figures.status();
  const std::string troubles = Troubles(status);
  rows->Add("backpropd", {{OneLine(note), 0},
                          {troubles.empty() ? "SERVING" : troubles, 1},
                          {"up " + Uptime(figures.uptime_seconds()), 2},
                          {OneLine(status.version), 3},
                          {OneLine(status.instruction_set), 5},
                          {Utc(status.status_time), 4}});
}

void AddWork(Rows* rows) {
  rows->Add("calls", {{rows->Rate("calls", "perSecond", "calls"), 0},
                      {rows->Rate("calls", "errorsPerSecond", "errors"), 1},
                      {rows->Count("calls", "inFlight") + " in flight", 2},
                      {rows->Rate("calls", "refusalsPerSecond", "refusals"), 3}});
  rows->Add("work", {{rows->Rate("work", "stepsPerSecond", "steps"), 0},
                     {rows->Rate("work", "trainedRowsPerSecond", "rows"), 1},
                     {rows->Rate("work", "predictedRowsPerSecond", "predicted rows"), 2}});
  rows->Add("runs", {{rows->Count("runs", "active") + " active", 0},
                     {rows->Count("queue", "backgroundWaiting") + " slices queued", 1},
                     {rows->Rate("runs", "endedPerSecond", "ended"), 2}});
  rows->Add(
      "models",
      {{rows->Count("models", "resident") + " resident of " + rows->Count("models", "stored"), 0},
       {rows->Rate("models", "loadsPerSecond", "loads"), 1},
       {rows->Rate("models", "evictionsPerSecond", "evictions"), 2},
       {rows->Count("datasets", "complete") + " datasets", 3}});
}

void AddPool(const ServerFigures& figures, Rows* rows) {
  const auto threads = figures.Get("pool", "threads");
  const auto interactive = figures.Get("pool", "interactiveBusyThreads");
  const auto background = figures.Get("pool", "backgroundBusyThreads");
  std::optional<double> busy;
  if (interactive.has_value() && background.has_value()) busy = *interactive + *background;
  rows->Add("pool", {{ShownPercent(busy, threads) + " busy", 0},
                     {rows->Count("pool", "threads") + " threads", 1},
                     {"interactive " + ShownPercent(interactive, threads), 2},
                     {"background " + ShownPercent(background, threads), 3}});
  rows->Add("queue", {{rows->Count("queue", "interactiveWaiting") + " waiting", 0},
                      {"wait p99 " + rows->Seconds("queue", "interactiveP99Seconds"), 1},
                      {"p50 " + rows->Seconds("queue", "interactiveP50Seconds"), 3},
                      {"background p99 " + rows->Seconds("queue", "backgroundP99Seconds"), 2}});
}

void AddStore(const ServerFigures& figures, Rows* rows) {
  const auto healthy = figures.Get("store", "healthy");
  if (!healthy.has_value()) {
    rows->Add("store", {{"none: models are in memory only", 0}});
    return;
  }
  rows->Add("store", {{*healthy > 0 ? "" : "FAILING", 0},
                      {rows->Rate("store", "groupsPerSecond", "groups"), 1},
                      {rows->Rate("store", "changesPerSecond", "changes"), 3},
                      {"commit p99 " + rows->Seconds("store", "commitP99Seconds"), 4},
                      {"fdatasync p99 " + rows->Seconds("store", "syncP99Seconds"), 2}});
  rows->Add("disk", {{rows->Bytes("store", "diskBytes") + " used", 0},
                     {rows->Bytes("store", "freeDiskBytes") + " free", 1},
                     {rows->Bytes("store", "writtenBytesPerSecond") + "/s written", 2}});
}

void AddProcess(const ServerFigures& figures, Rows* rows) {
  const bool limited = figures.Get("memory", "limitBytes").value_or(0) > 0;
  rows->Add("memory", {{rows->Bytes("memory", "residentBytes") + " resident", 0},
                       {limited ? "limit " + rows->Bytes("memory", "limitBytes") : "no limit", 1},
                       {"models " + rows->Bytes("memory", "modelsBytes"), 2},
                       {"work " + rows->Bytes("memory", "workBytes"), 3}});
  const auto cores = figures.Get("process", "cpuCores");
  rows->Add("process", {{(cores.has_value() ? Format("%.2f", *cores) : "-") + " cores", 0},
                        {rows->Count("process", "connections") + " connections", 1},
                        {rows->Count("process", "openFiles") + " open files", 2}});
}

// The table of methods, in `height` lines.
void AddMethods(const std::vector<MethodFigures>& methods, size_t height, Rows* rows) {
  if (methods.empty() || height < 2) return;
  const size_t fitting = height - 1;
  size_t shown = methods.size();
  if (shown > fitting) shown = fitting - 1;  // one line for the note
  TextTable table({{"METHOD"},
                   {"CALLS/S", true},
                   {"ERRORS/S", true},
                   {"P50", true},
                   {"P99", true},
                   {"IN FLIGHT", true}});
  for (size_t i = 0; i < shown; ++i) {
    const MethodFigures& of = methods[i];
    table.Add({OneLine(of.method), ShownNumber(of.calls_per_second),
               ShownNumber(of.errors_per_second), ShownSeconds(of.p50_seconds),
               ShownSeconds(of.p99_seconds), ShownCount(of.in_flight)});
  }
  const std::string text = table.ToString();
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    rows->AddLine(text.substr(at, end - at));
    at = end + 1;
  }
  if (shown < methods.size()) {
    rows->AddLine("… and " + std::to_string(methods.size() - shown) + " more methods");
  }
}

// Collects members of a JSON object.
class JsonObject {
 public:
  void Add(const std::string& name, const std::string& json) {
    text_ += (text_.empty() ? "" : ",") + JsonString(name) + ":" + json;
  }
  // Left out if there is no value, or if it is not finite, which JSON cannot say.
  void AddNumber(const std::string& name, std::optional<double> value) {
    if (value.has_value() && std::isfinite(*value)) Add(name, Format("%.9g", *value));
  }
  std::string ToString() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

std::string JsonList(const std::vector<std::string>& elements) {
  std::string text;
  for (const std::string& element : elements) text += (text.empty() ? "" : ",") + element;
  return "[" + text + "]";
}

std::string ServerJson(const ServerFigures& figures) {
  const ServerStatus& status = figures.status();
  std::vector<std::string> health;
  for (const ServiceHealth& service : status.health) {
    JsonObject one;
    one.Add("service", JsonString(service.service));
    one.Add("serving", service.serving ? "true" : "false");
    if (!service.reason.empty()) one.Add("reason", JsonString(service.reason));
    health.push_back(one.ToString());
  }
  JsonObject server;
  server.Add("version", JsonString(status.version));
  server.Add("commit", JsonString(status.commit));
  server.Add("instructionSet", JsonString(status.instruction_set));
  server.AddNumber("uptimeSeconds", figures.uptime_seconds());
  server.Add("health", JsonList(health));
  return server.ToString();
}

}  // namespace

std::string ShownNumber(std::optional<double> value) {
  if (!value.has_value() || std::isnan(*value)) return "-";
  return Scaled(*value, *value < 99.95 ? "%.1f" : "%.0f");
}

std::string ShownCount(std::optional<double> value) {
  if (!value.has_value() || std::isnan(*value)) return "-";
  return Scaled(*value, "%.0f");
}

std::string ShownSeconds(std::optional<double> value) {
  if (!value.has_value() || std::isnan(*value)) return "-";
  if (*value < 999.5e-6) return Format("%.0f µs", *value * 1e6);
  if (*value < 999.5e-3) return Format("%.1f ms", *value * 1e3);
  if (*value < 119.995) return Format("%.2f s", *value);
  return Format("%.1f min", *value / 60);
}

std::string ShownBytes(std::optional<double> value) {
  if (!value.has_value() || std::isnan(*value)) return "-";
  if (*value < 999.5e3) return Format("%.0f kB", *value / 1e3);
  if (*value < 999.5e6) return Format("%.0f MB", *value / 1e6);
  return Format("%.1f GB", *value / 1e9);
}

std::vector<std::string> TopLines(const ServerFigures& figures, const std::string& note,
                                  size_t width, size_t height) {
  Rows rows(figures, width);
  AddHead(figures, note, &rows);
  AddWork(&rows);
  AddPool(figures, &rows);
  AddStore(figures, &rows);
  AddProcess(figures, &rows);
  rows.AddLine("");
  std::vector<std::string> lines = std::move(rows).lines();
  Rows methods(figures, width);
  if (height > lines.size()) AddMethods(figures.methods(), height - lines.size(), &methods);
  for (std::string& line : std::move(methods).lines()) lines.push_back(std::move(line));
  if (lines.size() > height) lines.resize(height);
  return lines;
}

std::string TopJson(const ServerFigures& figures) {
  JsonObject all;
  all.Add("time", JsonString(Utc(figures.status().status_time)));
  all.AddNumber("intervalSeconds", figures.interval_seconds());
  all.Add("server", ServerJson(figures));
  for (const auto& [name, group] : figures.groups()) {
    JsonObject members;
    for (const auto& [figure, value] : group) members.AddNumber(figure, value);
    all.Add(name, members.ToString());
  }
  std::vector<std::string> methods;
  for (const MethodFigures& of : figures.methods()) {
    JsonObject method;
    method.Add("method", JsonString(of.method));
    method.AddNumber("calls", of.calls);
    method.AddNumber("inFlight", of.in_flight);
    method.AddNumber("callsPerSecond", of.calls_per_second);
    method.AddNumber("errorsPerSecond", of.errors_per_second);
    method.AddNumber("p50Seconds", of.p50_seconds);
    method.AddNumber("p99Seconds", of.p99_seconds);
    methods.push_back(method.ToString());
  }
  all.Add("methods", JsonList(methods));
  return all.ToString();
}

}  // namespace backprop::cli
