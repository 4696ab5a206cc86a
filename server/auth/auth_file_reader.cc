#include "server/auth/auth_file_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace backprop::auth {
namespace {

bool Same(const timespec& one, const timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

absl::StatusOr<std::string> AuthFileReader::Contents() {
  file_ = {};
  read_ = absl::Now();
  // O_NONBLOCK: the open of a FIFO does not wait for its writer.
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::UnavailableError(std::strerror(errno));
  const absl::Cleanup close_file = [fd] { close(fd); };
  // Taken before the contents are read, so that a change during the read is noticed.
  struct stat file = {};
  if (fstat(fd, &file) != 0) return absl::UnavailableError(std::strerror(errno));
  file_ = file;
  if (!S_ISREG(file.st_mode)) return absl::UnavailableError("is not a regular file");
  if ((file.st_mode & S_IWOTH) != 0) {
    return absl::UnavailableError("may be written by every user of this machine; use chmod o-w");
  }
  std::string text;
  char buffer[1 << 16];
  // One byte more than the limit, so that ParseAuthFile sees that it is exceeded.
  while (text.size() <= kMaxAuthFileBytes) {
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::UnavailableError(std::strerror(errno));
    if (count == 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

AuthFileReader::Result AuthFileReader::Read() {
  found_.clear();
  return *ReadIfChanged();
}

std::optional<AuthFileReader::Result> AuthFileReader::ReadIfChanged() {
  if (!found_.empty() && Settled()) return std::nullopt;
  const auto about = [this](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(path_, ": ", status.message()));
  };
  const auto text = Contents();
  std::string found(text.status().message());
  if (text.ok()) {
    const Digest digest = Sha256(*text);
    found.assign(digest.begin(), digest.end());
  }
  if (found == found_) return std::nullopt;
  found_ = std::move(found);
  if (!text.ok()) return about(text.status());
  auto file = ParseAuthFile(*text);
  if (!file.ok()) return about(file.status());
  return file;
}

// Whether the file is that of the last read and was not written since. A file that was written
// shortly before the read may have been written again without a change of its time, which the
// system counts in steps of some milliseconds.
bool AuthFileReader::Settled() const {
  constexpr absl::Duration kStep = absl::Seconds(1);
  struct stat now = {};
  if (stat(path_.c_str(), &now) != 0) now = {};
  return now.st_dev == file_.st_dev && now.st_ino == file_.st_ino && now.st_size == file_.st_size &&
         Same(now.st_mtim, file_.st_mtim) && Same(now.st_ctim, file_.st_ctim) &&
         absl::TimeFromTimespec(now.st_ctim) + kStep < read_;
}

}  // namespace backprop::auth
