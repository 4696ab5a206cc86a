// How far the store is known to reach: a number beside the log that grows with every synced group.
#ifndef BACKPROP_SERVER_STORE_WATERMARK_H_
#define BACKPROP_SERVER_STORE_WATERMARK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace backprop::store {

// A log that has lost its end looks like one that a crash cut short. The watermark tells them
// apart: it is written, without a sync, after a group was synced and before its callers are
// answered, so that at the next start the store must hold at least the group it names. When the
// machine crashes the file may be older than the log, never younger. Thread-compatible.
class Watermark {
 public:
  // `path` need not exist: then the watermark is 0.
  static absl::StatusOr<Watermark> Open(const std::string& path);
  Watermark(Watermark&& other) noexcept;
  Watermark& operator=(Watermark&&) = delete;
  ~Watermark();

  uint64_t value() const { return value_; }
  // Errors are not told: an old watermark only detects less.
  void Raise(uint64_t value);

 private:
  Watermark(int fd, uint64_t value) : fd_(fd), value_(value) {}

  int fd_;
  uint64_t value_;
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_WATERMARK_H_
