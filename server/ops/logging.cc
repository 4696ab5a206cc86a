#include "server/ops/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "server/base/call_times.h"
#include "server/base/text.h"
#include "server/ops/recent_lines.h"
#include "server/rpc/library_log.h"

namespace backprop::ops {
namespace {

constexpr size_t kMaxLineBytes = 4096;
constexpr size_t kMaxErrorTextBytes = 512;

// Formats the message on one line; %* in the pattern.
class TextMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string line = base::EscapeControls(
        base::Cut({message.payload.data(), message.payload.size()}, kMaxLineBytes));
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<TextMessage>();
  }
};

// Formats the message as the contents of a JSON string.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string line = base::EscapeControls(
        base::Cut({message.payload.data(), message.payload.size()}, kMaxLineBytes));
    for (const char c : line) {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

RecentLines& TheRecentLines() {
  static auto* lines = new RecentLines(kMostRecentLines, kMostRecentBytes);
  return *lines;
}

// Keeps the latest lines.
class RecentLinesSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    TheRecentLines().Add(
        absl::StripTrailingAsciiWhitespace(absl::string_view(line.data(), line.size())));
  }
  void flush_() override {}
};

// Forwards at most kMostLinesPerSecond lines per site and second, and counts the others.
// Thread-safe.
class LimitedSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LimitedSink(spdlog::sink_ptr out) : out_(std::move(out)) {}

  // Reports omitted lines of past seconds, with `all` also of the current one.
  void Report(bool all) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto now = spdlog::log_clock::now();
    for (auto& [place, site] : sites_) {
      if (all || now - site.begin >= std::chrono::seconds(1)) Tell(&site);
    }
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (message.source.empty()) return out_->log(message);
    Site& site = sites_[{message.source.filename, message.source.line}];
    // A clock that was set back starts a new second too.
    if (message.time - site.begin >= std::chrono::seconds(1) || message.time < site.begin) {
      Tell(&site);
      site.begin = message.time;
      site.lines = 0;
    }
    if (++site.lines <= kMostLinesPerSecond) return out_->log(message);
    if (++site.left_out > 1) return;
    site.level = message.level;
    site.name = std::string(message.logger_name.data(), message.logger_name.size());
    site.first =
        base::Escape({message.payload.data(), message.payload.size()}, base::kMaxLoggedBytes);
  }
  void flush_() override { out_->flush(); }
  void set_formatter_(std::unique_ptr<spdlog::formatter> formatter) override {
    out_->set_formatter(std::move(formatter));
  }
  void set_pattern_(const std::string& pattern) override { out_->set_pattern(pattern); }

 private:
  struct Site {
    spdlog::log_clock::time_point begin;
    int64_t lines = 0;     // lines since `begin`
    int64_t left_out = 0;  // omitted lines not yet reported
    std::string first;     // the first omitted line
    std::string name;
    spdlog::level::level_enum level = spdlog::level::info;
  };

  void Tell(Site* site) {
    if (site->left_out == 0) return;
    const std::string text =
        absl::StrCat("omitted ", site->left_out, " similar lines, such as: ", site->first);
    out_->log(spdlog::details::log_msg(site->name, site->level, text));
    site->left_out = 0;
  }

  const spdlog::sink_ptr out_;
  std::map<std::pair<std::string, int>, Site> sites_;
};

std::shared_ptr<LimitedSink>& TheSink() {
  static auto* sink = new std::shared_ptr<LimitedSink>();
  return *sink;
}

void OnLibraryLine(const rpc::LibraryLine& line) {
  spdlog::level::level_enum level = spdlog::level::debug;
  if (line.level == rpc::LibraryLine::Level::kWarning) level = spdlog::level::warn;
  if (line.level == rpc::LibraryLine::Level::kError) level = spdlog::level::err;
  if (line.level == rpc::LibraryLine::Level::kFatal) level = spdlog::level::critical;
  spdlog::log(spdlog::source_loc{line.file, line.line, ""}, level, "{}: {}", line.library,
              line.text);
}

std::string WholeMicroseconds(absl::Duration time) {
  return absl::StrCat(absl::ToInt64Microseconds(time), "us");
}

// The fields of a call, divided by spaces.
std::string Describe(const rpc::CallRecord& call) {
  const std::string resource =
      absl::StrReplaceAll(base::Escape(call.resource, base::kMaxLoggedBytes), {{" ", "\\x20"}});
  const std::string& trace = call.identity.traceparent;
  return absl::StrCat(call.method, " ", resource, " ", absl::StatusCodeToString(call.code), " ",
                      WholeMicroseconds(call.elapsed), " request_id=", call.identity.request_id,
                      trace.empty() ? "" : " traceparent=", trace);
}

}  // namespace

void SetUpLogging(const std::string& level, LogFormat format) {
  TheSink() = std::make_shared<LimitedSink>(std::make_shared<spdlog::sinks::dist_sink_mt>(
      std::vector<spdlog::sink_ptr>{std::make_shared<spdlog::sinks::stderr_color_sink_mt>(),
                                    std::make_shared<RecentLinesSink>()}));
  auto logger = std::make_shared<spdlog::logger>("backpropd", TheSink());
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (format == LogFormat::kJson) {
    formatter->add_flag<JsonMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})");
  } else {
    formatter->add_flag<TextMessage>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %*");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  rpc::SetLibraryLog(OnLibraryLine);
}

void LogCall(const rpc::CallRecord& call) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  const std::string message(base::Cut(call.message, kMaxErrorTextBytes));
  spdlog::log(spdlog::source_loc{call.method, static_cast<int>(call.code) + 1, ""},
              spdlog::level::debug, "{}{}{}", Describe(call), message.empty() ? "" : ": ", message);
}

void LogSlowCall(const rpc::CallRecord& call) {
  if (call.times == nullptr) return;
  std::string stages;
  absl::Duration rest = call.elapsed;
  for (size_t i = 0; i < base::kCallStageNames.size(); ++i) {
    const auto spent = absl::FromChrono(call.times->spent(static_cast<base::CallStage>(i)));
    rest -= spent;
    absl::StrAppend(&stages, base::kCallStageNames[i], " ", WholeMicroseconds(spent), ", ");
  }
  spdlog::log(spdlog::source_loc{call.method, -1, ""}, spdlog::level::warn,
              "slow request: {}: {}other {}", Describe(call), stages, WholeMicroseconds(rest));
}

void LogLine(const char* part, spdlog::level::level_enum level, const std::string& line) {
  spdlog::log(spdlog::source_loc{part, static_cast<int>(level) + 1, ""}, level, "{}: {}", part,
              line);
}

void ReportLeftOut(bool at_end) {
  if (TheSink() != nullptr) TheSink()->Report(at_end);
}

std::vector<std::string> RecentLogLines() { return TheRecentLines().lines(); }

void LogRun(const session::Run& run, const records::RunSummary& summary) {
  const std::string loss =
      summary.metrics.has_value() ? absl::StrCat(", loss ", summary.metrics->loss) : "";
  spdlog::log(spdlog::source_loc{"run", static_cast<int>(summary.stop_reason) + 1, ""},
              spdlog::level::info, "{} {} after {} iterations in {}{}{}{}", run.name(),
              records::NameOf(summary.stop_reason), summary.iterations,
              absl::FormatDuration(summary.elapsed), loss, summary.message.empty() ? "" : ": ",
              summary.message);
}

}  // namespace backprop::ops
