// Files of frames, each with its checksum: models and backups. docs/model_format.md describes them.
#ifndef BACKPROP_SERVER_SESSION_FRAMED_H_
#define BACKPROP_SERVER_SESSION_FRAMED_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

struct XXH3_state_s;

namespace backprop::session {

inline constexpr size_t kMagicBytes = 8;
inline constexpr size_t kMaxFrameBytes = size_t{1} << 20;  // of what a frame brings

// Both sides keep a checksum of everything, which the end of the file brings.
class FrameChecksum {
 public:
  FrameChecksum();
  ~FrameChecksum();
  void Add(absl::string_view payload);
  uint64_t value() const;

 private:
  XXH3_state_s* const state_;
};

// Thread-compatible.
class FrameWriter {
 public:
  // The first bytes of a file: `magic` has kMagicBytes.
  static std::string Begin(absl::string_view magic) { return std::string(magic); }
  // `payload`: 1 to kMaxFrameBytes.
  std::string Frame(absl::string_view payload);
  // The last bytes.
  std::string End();

 private:
  FrameChecksum checksum_;
};

// Takes a file in pieces of any size and hands out what its frames bring. Thread-compatible. Holds
// at most a frame. Errors: INVALID_ARGUMENT, saying at which byte what is wrong.
class FrameReader {
 public:
  explicit FrameReader(std::string magic) : magic_(std::move(magic)) {}

  using Visitor = absl::FunctionRef<absl::Status(absl::string_view payload)>;
  absl::Status Add(absl::string_view bytes, Visitor visit);
  // OK if the file is complete.
  absl::Status CheckComplete() const;

 private:
  const std::string magic_;
  FrameChecksum checksum_;
  std::string rest_;    // of a frame that is not complete
  int64_t offset_ = 0;  // of rest_ in the file
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_FRAMED_H_
