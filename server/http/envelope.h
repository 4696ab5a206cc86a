// Messages of a stream as they are in a body: a byte of flags, the length in four bytes of big
// endian, the message. Both protocols use this form.
#ifndef BACKPROP_SERVER_HTTP_ENVELOPE_H_
#define BACKPROP_SERVER_HTTP_ENVELOPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace backprop::http {

inline constexpr uint8_t kCompressedFlag = 1;
inline constexpr uint8_t kConnectEndFlag = 2;          // the message is ConnectEndOfStream
inline constexpr uint8_t kGrpcWebTrailersFlag = 0x80;  // the message is GrpcWebTrailers
inline constexpr size_t kEnvelopeBytes = 5;

struct Envelope {
  uint8_t flags = 0;
  std::string message;
};

// `message` must have less than 4 GiB.
std::string WriteEnvelope(uint8_t flags, absl::string_view message);

// Takes messages out of the pieces of a body. Holds what was added and not taken: a piece, and a
// message of at most `most_bytes` bytes. Memory grows with what arrives, not with lengths that are
// claimed.
class EnvelopeReader {
 public:
  // `is_base64`: the body is base64 of envelopes, in one or more parts with padding.
  EnvelopeReader(size_t most_bytes, bool is_base64)
      : most_bytes_(most_bytes), is_base64_(is_base64) {}

  // INVALID_ARGUMENT if the piece is not base64.
  absl::Status Add(absl::string_view piece);
  // The next message, if it has arrived. RESOURCE_EXHAUSTED if its length is above the limit.
  absl::StatusOr<std::optional<Envelope>> Take();
  // Whether bytes are left, which at the end of a body are an unfinished message.
  bool HasRest() const { return taken_ < bytes_.size() || !undecoded_.empty(); }
  size_t held_bytes() const { return bytes_.size() + undecoded_.size(); }

 private:
  const size_t most_bytes_;
  const bool is_base64_;
  std::string undecoded_;  // less than four characters of base64
  std::string bytes_;
  size_t taken_ = 0;  // of bytes_
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_ENVELOPE_H_
