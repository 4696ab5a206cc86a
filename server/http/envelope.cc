#include "server/http/envelope.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace backprop::http {
namespace {

constexpr size_t kQuantum = 4;  // characters of base64 that are three bytes

uint32_t LengthAt(const char* at) {
  uint32_t length = 0;
  for (int i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(at[i]);
  return length;
}

}  // namespace

std::string WriteEnvelope(uint8_t flags, absl::string_view message) {
  const auto length = static_cast<uint32_t>(message.size());
  std::string envelope;
  envelope.reserve(kEnvelopeBytes + message.size());
  envelope += static_cast<char>(flags);
  for (int shift = 24; shift >= 0; shift -= 8) envelope += static_cast<char>(length >> shift & 255);
  envelope.append(message.data(), message.size());
  return envelope;
}

absl::Status EnvelopeReader::Add(absl::string_view piece) {
  bytes_.erase(0, taken_);
  taken_ = 0;
  if (!is_base64_) {
    bytes_.append(piece.data(), piece.size());
    return absl::OkStatus();
  }
  undecoded_.append(piece.data(), piece.size());
  // Padding ends a part; another part may follow.
  size_t done = 0;
  while (undecoded_.size() - done >= kQuantum) {
    size_t end = undecoded_.size() - (undecoded_.size() - done) % kQuantum;
    const size_t padding = undecoded_.find('=', done);
    if (padding < end) end = done + ((padding - done) / kQuantum + 1) * kQuantum;
    std::string decoded;
    const absl::string_view part(undecoded_.data() + done, end - done);
    if (part.find_first_of(" \t\r\n\v\f") != absl::string_view::npos ||
        !absl::Base64Unescape(part, &decoded)) {
      return absl::InvalidArgumentError("the body is not base64");
    }
    bytes_ += decoded;
    done = end;
  }
  undecoded_.erase(0, done);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Envelope>> EnvelopeReader::Take() {
  if (bytes_.size() - taken_ < kEnvelopeBytes) return std::nullopt;
  const size_t length = LengthAt(bytes_.data() + taken_ + 1);
  if (length > most_bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the message has ", length, " bytes; the limit is ", most_bytes_));
  }
  if (bytes_.size() - taken_ - kEnvelopeBytes < length) return std::nullopt;
  Envelope envelope;
  envelope.flags = static_cast<uint8_t>(bytes_[taken_]);
  envelope.message = bytes_.substr(taken_ + kEnvelopeBytes, length);
  taken_ += kEnvelopeBytes + length;
  if (taken_ == bytes_.size()) {
    bytes_.clear();
    taken_ = 0;
  }
  return envelope;
}

}  // namespace backprop::http
