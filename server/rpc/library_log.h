// Redirects the log of gRPC and protobuf, which these libraries otherwise write to standard error.
#ifndef BACKPROP_SERVER_RPC_LIBRARY_LOG_H_
#define BACKPROP_SERVER_RPC_LIBRARY_LOG_H_

#include <string>

namespace backprop::rpc {

struct LibraryLine {
  enum class Level { kDebug, kWarning, kError, kFatal };
  const char* library;
  const char* file;  // the source file that logs; never freed
  int line;
  Level level;
  std::string text;
};

// Passes each line to `log`, which any thread may call. Call once, before any other use of gRPC or
// protobuf.
void SetLibraryLog(void (*log)(const LibraryLine&));

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_LIBRARY_LOG_H_
