#include "server/rpc/library_log.h"

#include <grpc/support/log.h>

#include "absl/strings/match.h"

// Newer versions of protobuf log through Abseil and do not have this header.
#if __has_include(<google/protobuf/stubs/logging.h>)
#include <google/protobuf/stubs/logging.h>
#define BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
#endif

namespace backprop::rpc {
namespace {

using Level = LibraryLine::Level;

void (*log_line)(const LibraryLine&) = nullptr;

// gRPC's lines are useful to its developers only, except for a failed assertion, after which gRPC
// aborts the process.
void OnGrpc(gpr_log_func_args* line) {
  const bool ends = absl::StartsWith(line->message, "assertion failed");
  log_line({"grpc", line->file, line->line, ends ? Level::kFatal : Level::kDebug, line->message});
}

#ifdef BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
void OnProtobuf(google::protobuf::LogLevel level, const char* file, int line,
                const std::string& text) {
  const Level as = level == google::protobuf::LOGLEVEL_FATAL     ? Level::kFatal
                   : level == google::protobuf::LOGLEVEL_ERROR   ? Level::kError
                   : level == google::protobuf::LOGLEVEL_WARNING ? Level::kWarning
                                                                 : Level::kDebug;
  log_line({"protobuf", file, line, as, text});
}
#endif

}  // namespace

void SetLibraryLog(void (*log)(const LibraryLine&)) {
  log_line = log;
  gpr_set_log_function(OnGrpc);
#ifdef BACKPROP_PROTOBUF_LOGS_THROUGH_A_HANDLER
  google::protobuf::SetLogHandler(OnProtobuf);
#endif
}

}  // namespace backprop::rpc
