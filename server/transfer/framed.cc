#include "server/transfer/framed.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace backprop::transfer {
namespace {

// Frame header: length (4 bytes) and XXH3-64 (8 bytes) of the payload, little-endian.
constexpr size_t kHeaderBytes = 12;

std::string Header(uint32_t length, uint64_t checksum) {
  std::string header(kHeaderBytes, '\0');
  std::memcpy(header.data(), &length, sizeof length);
  std::memcpy(header.data() + sizeof length, &checksum, sizeof checksum);
  return header;
}

}  // namespace

FrameChecksum::FrameChecksum() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state_);
}
FrameChecksum::~FrameChecksum() { XXH3_freeState(state_); }
void FrameChecksum::Add(absl::string_view payload) {
  XXH3_64bits_update(state_, payload.data(), payload.size());
}
uint64_t FrameChecksum::value() const { return XXH3_64bits_digest(state_); }

std::string FrameWriter::Frame(absl::string_view payload) {
  checksum_.Add(payload);
  return absl::StrCat(
      Header(static_cast<uint32_t>(payload.size()), XXH3_64bits(payload.data(), payload.size())),
      payload);
}

std::string FrameWriter::End() { return Header(0, checksum_.value()); }

absl::Status FrameReader::Add(absl::string_view bytes, Visitor visit) {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("byte ", offset_, ": ", what));
  };
  rest_.append(bytes.data(), bytes.size());
  absl::string_view left = rest_;
  const auto take = [&](size_t count) {
    const absl::string_view taken = left.substr(0, count);
    left.remove_prefix(count);
    offset_ += static_cast<int64_t>(count);
    return taken;
  };
  if (!begun_) {
    if (left.substr(0, kMagicBytes) != absl::string_view(magic_).substr(0, left.size())) {
      return wrong("the file does not start with the magic bytes of this kind and version");
    }
    if (left.size() < kMagicBytes) return absl::OkStatus();
    take(kMagicBytes);
    begun_ = true;
  }
  while (left.size() >= kHeaderBytes) {
    if (ended_) return wrong("unexpected data after the end of the file");
    uint32_t length = 0;
    uint64_t checksum = 0;
    std::memcpy(&length, left.data(), sizeof length);
    std::memcpy(&checksum, left.data() + sizeof length, sizeof checksum);
    if (length > kMaxFrameBytes) {
      return wrong(absl::StrCat("a frame has ", length, " bytes, more than the maximum of ",
                                kMaxFrameBytes));
    }
    if (length == 0) {
      if (checksum != checksum_.value()) return wrong("the checksum of the file does not match");
      take(kHeaderBytes);
      ended_ = true;
      continue;
    }
    if (left.size() < kHeaderBytes + length) break;
    const absl::string_view payload = left.substr(kHeaderBytes, length);
    if (XXH3_64bits(payload.data(), payload.size()) != checksum) {
      return wrong("the checksum of the frame does not match");
    }
    checksum_.Add(payload);
    absl::Status visited = visit(payload);
    if (!visited.ok()) return visited;
    take(kHeaderBytes + length);
  }
  if (ended_ && !left.empty()) return wrong("unexpected data after the end of the file");
  rest_.erase(0, rest_.size() - left.size());
  return absl::OkStatus();
}

absl::Status FrameReader::CheckComplete() const {
  if (ended_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "byte ", offset_ + static_cast<int64_t>(rest_.size()), ": the file is truncated"));
}

}  // namespace backprop::transfer
