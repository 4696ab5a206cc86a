// The watermark: the number of the last acknowledged group, in a file next to the log.
#ifndef BACKPROP_SERVER_STORE_WATERMARK_H_
#define BACKPROP_SERVER_STORE_WATERMARK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace backprop::store {

// Detects a log that lost its end; without it, such a log looks like one that a crash truncated.
// The watermark is written, without a sync, after a group was synced and before its callers are
// answered, so that at the next start the store must hold at least that group. After a crash of the
// machine the file may be older than the log, never newer. Thread-compatible.
class Watermark {
 public:
  // Opens or creates the file at `path`; in a new file the watermark is 0.
  static absl::StatusOr<Watermark> Open(const std::string& path);
  Watermark(Watermark&& other) noexcept;
  Watermark& operator=(Watermark&&) = delete;
  ~Watermark();

  uint64_t value() const { return value_; }
  // Writes a higher value. Errors are ignored: an old watermark only detects less.
  void Raise(uint64_t value);

 private:
  Watermark(int fd, uint64_t value) : fd_(fd), value_(value) {}

  int fd_;
  uint64_t value_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_WATERMARK_H_
