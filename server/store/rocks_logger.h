// Forwards RocksDB's warnings to the server's log.
#ifndef BACKPROP_SERVER_STORE_ROCKS_LOGGER_H_
#define BACKPROP_SERVER_STORE_ROCKS_LOGGER_H_

#include <rocksdb/env.h>

#include <cstdarg>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>

namespace backprop::store {

// Replaces RocksDB's own log file. That file is on the disk whose errors it reports, and when the
// disk is full its writer fails an assertion at the next line. Thread-safe if `log` is.
class RocksLogger final : public rocksdb::Logger {
 public:
  explicit RocksLogger(std::function<void(const std::string&)> log)
      : Logger(rocksdb::InfoLogLevel::WARN_LEVEL), log_(std::move(log)) {}

  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    if (!log_) return;
    char line[512];
    std::vsnprintf(line, sizeof line, format, arguments);
    log_(line);
  }

 private:
  const std::function<void(const std::string&)> log_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_ROCKS_LOGGER_H_
