// The file format of models and backups: frames with checksums. docs/model_format.md describes it.
#ifndef BACKPROP_SERVER_TRANSFER_FRAMED_H_
#define BACKPROP_SERVER_TRANSFER_FRAMED_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

struct XXH3_state_s;

namespace backprop::transfer {

inline constexpr size_t kMagicBytes = 8;
inline constexpr size_t kMaxFrameBytes = size_t{1} << 20;  // payload of one frame

// Checksum of all payloads of a file, which is stored at the end of the file. Thread-compatible.
class FrameChecksum {
 public:
  FrameChecksum();
  ~FrameChecksum();
  void Add(absl::string_view payload);
  uint64_t value() const;

 private:
  XXH3_state_s* const state_;
};

// Encodes a file. Thread-compatible.
class FrameWriter {
 public:
  // Returns the first bytes of a file. `magic` must have kMagicBytes bytes.
  static std::string Begin(absl::string_view magic) { return std::string(magic); }
  // Encodes one frame. `payload` must have 1 to kMaxFrameBytes bytes.
  std::string Frame(absl::string_view payload);
  // Returns the last bytes of the file.
  std::string End();

 private:
  FrameChecksum checksum_;
};

// Decodes a file that arrives in pieces of any size. Holds at most one frame and the bytes of one
// call. Errors: INVALID_ARGUMENT with the position of the error in the file. Thread-compatible.
class FrameReader {
 public:
  explicit FrameReader(std::string magic) : magic_(std::move(magic)) {}

  using Visitor = absl::FunctionRef<absl::Status(absl::string_view payload)>;
  // Calls `visit` with the payload of each frame that is complete now. Also returns errors of
  // `visit`.
  absl::Status Add(absl::string_view bytes, Visitor visit);
  // OK if the file is complete.
  absl::Status CheckComplete() const;

 private:
  const std::string magic_;
  FrameChecksum checksum_;
  std::string rest_;    // beginning of an incomplete frame
  int64_t offset_ = 0;  // of rest_ in the file
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace backprop::transfer

#endif  // BACKPROP_SERVER_TRANSFER_FRAMED_H_
