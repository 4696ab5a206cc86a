// Logging through spdlog, to standard error.
#ifndef BACKPROP_SERVER_OPS_LOGGING_H_
#define BACKPROP_SERVER_OPS_LOGGING_H_

#include <string>

#include "server/ops/config.h"
#include "server/rpc/context.h"
#include "server/session/run.h"

namespace backprop::ops {

// Sets up spdlog's default logger. Call once, before any thread logs.
void SetUpLogging(const std::string& level, LogFormat format);

// One line a request, at debug.
void LogCall(const rpc::CallRecord& call);

// One line a run, at info.
void LogRun(const session::Run& run, const session::RunSummary& summary);

}  // namespace backprop::ops

#endif  // BACKPROP_SERVER_OPS_LOGGING_H_
