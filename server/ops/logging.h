// Logging through spdlog to standard error. Every event is one line, whatever text callers and
// libraries supply: control characters and invalid UTF-8 are escaped in both formats. Lines with a
// site (source_loc) are rate-limited: after kMostLinesPerSecond lines of a site in one second,
// further lines are counted, and one line reports their number and the text of one of them. Except
// for SetUpLogging(), all functions are thread-safe.
#ifndef BACKPROP_SERVER_OPS_LOGGING_H_
#define BACKPROP_SERVER_OPS_LOGGING_H_

#include <spdlog/common.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/ops/config.h"
#include "server/records/run_events.h"
#include "server/rpc/call/calls.h"
#include "server/session/run.h"

namespace backprop::ops {

inline constexpr int64_t kMostLinesPerSecond = 100;

// Sets up spdlog's default logger and redirects the logs of gRPC and protobuf to it. Call once,
// before any thread logs.
void SetUpLogging(const std::string& level, LogFormat format);

// Logs a request, at level debug: method, resource, code, time, request id, traceparent, message.
// Spaces in the name of the resource are escaped, so that it cannot look like the other fields.
void LogCall(const rpc::CallRecord& call);

// Logs where the time of a slow request went, at level warn.
void LogSlowCall(const rpc::CallRecord& call);

// Logs the end of a run, at level info.
void LogRun(const session::Run& run, const records::RunSummary& summary);

// Logs a line of a component. Rate-limited by `part`, a string with static lifetime.
void LogLine(const char* part, spdlog::level::level_enum level, const std::string& line);

// Logs the number of lines omitted in past seconds, with `at_end` also in the current one. Call
// about once a second, and before exit.
void ReportLeftOut(bool at_end = false);

// The latest lines that were written, the oldest first, as they are on standard error but without
// colours: at most kMostRecentLines with at most kMostRecentBytes. Valid UTF-8.
inline constexpr size_t kMostRecentLines = 1000;
inline constexpr size_t kMostRecentBytes = size_t{256} << 10;
std::vector<std::string> RecentLogLines();

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_LOGGING_H_
