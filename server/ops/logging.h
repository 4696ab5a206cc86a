// Logging through spdlog, to standard error: one line an event, whatever a caller or a library puts
// into it. Control characters and what is not UTF-8 are escaped in both formats. A line that has a
// site (source_loc) is limited: after kMostLinesPerSecond of a site in a second the others are
// counted, and one line says how many there were and what one of them was like.
#ifndef BACKPROP_SERVER_OPS_LOGGING_H_
#define BACKPROP_SERVER_OPS_LOGGING_H_

#include <spdlog/common.h>

#include <cstdint>
#include <string>

#include "server/ops/config.h"
#include "server/rpc/context.h"
#include "server/session/run.h"

namespace backprop::ops {

inline constexpr int64_t kMostLinesPerSecond = 100;

// Sets up spdlog's default logger, and has gRPC and protobuf log through it. Call once, before any
// thread logs.
void SetUpLogging(const std::string& level, LogFormat format);

// One line a request, at debug.
void LogCall(const rpc::CallRecord& call);

// One line a run, at info.
void LogRun(const session::Run& run, const session::RunSummary& summary);

// What a part below has to say. Limited by `part`, a string that lives for ever.
void LogLine(const char* part, spdlog::level::level_enum level, const std::string& line);

// Says how many lines were left out in a second that has passed, `at_end` also in the present one.
// Call every second or so, and at the end.
void ReportLeftOut(bool at_end = false);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_LOGGING_H_
