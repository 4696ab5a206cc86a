// What gRPC and protobuf have to say, which they would write to standard error by themselves.
#ifndef BACKPROP_SERVER_RPC_LIBRARY_LOG_H_
#define BACKPROP_SERVER_RPC_LIBRARY_LOG_H_

#include <string>

namespace backprop::rpc {

struct LibraryLine {
  enum class Level { kDebug, kWarning, kError, kFatal };
  const char* library;
  const char* file;  // where it was written; lives for ever
  int line;
  Level level;
  std::string text;
};

// Has it passed to `log`, which any thread calls. Call once, before any other use of either.
void SetLibraryLog(void (*log)(const LibraryLine&));

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_LIBRARY_LOG_H_
