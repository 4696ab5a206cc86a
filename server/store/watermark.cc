#include "server/store/watermark.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace backprop::store {
namespace {

// Two slots are written alternately, so that one is always intact.
struct Slot {
  uint64_t value;
  uint64_t checksum;
};

Slot SlotOf(uint64_t value) { return {value, XXH3_64bits(&value, sizeof value)}; }

}  // namespace

absl::StatusOr<Watermark> Watermark::Open(const std::string& path) {
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  // A read-only store adds no groups.
  if (fd < 0) fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  Slot slots[2] = {};
  const ssize_t bytes = pread(fd, slots, sizeof slots, 0);
  uint64_t value = 0;
  for (size_t i = 0; i < 2; ++i) {
    const bool whole = bytes >= static_cast<ssize_t>((i + 1) * sizeof(Slot)) &&
                       slots[i].checksum == SlotOf(slots[i].value).checksum;
    if (whole) value = std::max(value, slots[i].value);
  }
  return Watermark(fd, value);
}

Watermark::Watermark(Watermark&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), value_(other.value_) {}

Watermark::~Watermark() {
  if (fd_ >= 0) close(fd_);
}

void Watermark::Raise(uint64_t value) {
  value_ = value;
  const Slot slot = SlotOf(value);
  [[maybe_unused]] const ssize_t written =
      pwrite(fd_, &slot, sizeof slot, static_cast<off_t>(value % 2 * sizeof slot));
}

}  // namespace backprop::store
