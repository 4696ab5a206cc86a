#include "server/ops/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "absl/strings/str_cat.h"

namespace backprop::ops {
namespace {

// The message as the inside of a JSON string: %* in the pattern.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    for (char c : message.payload) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20) {
        const std::string escaped = absl::StrCat("\\u", absl::Hex(byte, absl::kZeroPad4));
        out.append(escaped.data(), escaped.data() + escaped.size());
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

const char* NameOf(session::StopReason reason) {
  switch (reason) {
    case session::StopReason::kCompleted:
      return "completed";
    case session::StopReason::kStopped:
      return "stopped";
    case session::StopReason::kCancelled:
      return "cancelled";
    case session::StopReason::kDiverged:
      return "diverged";
    case session::StopReason::kModelDeleted:
      return "model deleted";
    case session::StopReason::kServerShutdown:
      return "server shutdown";
    case session::StopReason::kEarlyStopped:
      return "stopped early";
    case session::StopReason::kDataLost:
      return "data lost";
  }
  return "unknown";
}

}  // namespace

void SetUpLogging(const std::string& level, LogFormat format) {
  auto logger = spdlog::stderr_color_mt("backpropd");
  if (format == LogFormat::kJson) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<JsonMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})");
    logger->set_formatter(std::move(formatter));
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
  }
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void LogCall(const rpc::CallRecord& call) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  const std::string message(call.message);
  spdlog::debug("{} {} {} {:.0f}us{}{}", call.method, call.model,
                absl::StatusCodeToString(call.code), absl::ToDoubleMicroseconds(call.elapsed),
                message.empty() ? "" : ": ", message);
}

void LogRun(const session::Run& run, const session::RunSummary& summary) {
  const std::string loss =
      summary.metrics.has_value() ? absl::StrCat(", loss ", summary.metrics->loss) : "";
  spdlog::info("{} {} after {} iterations in {}{}{}{}", run.name(), NameOf(summary.stop_reason),
               summary.iterations, absl::FormatDuration(summary.elapsed), loss,
               summary.message.empty() ? "" : ": ", summary.message);
}

}  // namespace backprop::ops
