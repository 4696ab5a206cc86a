#include "server/store/disk_space.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace backprop::store {
namespace {

// Number of files that RocksDB creates when it opens: manifest, options and log, with temporary
// names.
constexpr int64_t kMarginFiles = 8;

std::string NameOf(int index) { return absl::StrCat("reserve.", index); }

}  // namespace

absl::StatusOr<DiskSpace> SpaceOf(int directory_fd) {
  struct statvfs disk = {};
  if (fstatvfs(directory_fd, &disk) != 0) {
    return absl::UnavailableError(absl::StrCat("statvfs: ", std::strerror(errno)));
  }
  const auto block = static_cast<int64_t>(disk.f_frsize);
  return DiskSpace{static_cast<int64_t>(disk.f_bavail) * block,
                   static_cast<int64_t>(disk.f_blocks) * block, static_cast<int64_t>(disk.f_favail),
                   static_cast<int64_t>(disk.f_files)};
}

bool Reserve::Fill(int64_t margin) {
  const base::MutexLock lock(&mu_);
  const auto space = SpaceOf(fd_);
  if (!space.ok()) return false;
  const int64_t wanted = (held_ ? 0 : bytes_) + margin;
  // Checked first, because a failed attempt would take space from others for a moment.
  if (space->free_bytes < wanted) return false;
  if (space->most_files > 0 && space->free_files < kFiles + kMarginFiles) return false;
  if (bytes_ == 0) return true;
  bool made[kFiles] = {};
  bool filled = true;
  for (int i = 0; i < kFiles && filled; ++i) filled = FillFile(i, &made[i]);
  for (int i = 0; i < kFiles && !filled; ++i) {
    if (made[i]) unlinkat(fd_, NameOf(i).c_str(), 0);
  }
  held_ = filled;
  return filled;
}

bool Reserve::FillFile(int index, bool* made) {
  const std::string name = NameOf(index);
  const int64_t bytes = bytes_ / kFiles;
  struct stat file = {};
  const bool there = fstatat(fd_, name.c_str(), &file, AT_SYMLINK_NOFOLLOW) == 0;
  if (there && file.st_size >= bytes && file.st_blocks * 512 >= bytes) return true;
  const int fd = openat(fd_, name.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  *made = true;
  const bool filled = posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0;
  close(fd);
  return filled;
}

void Reserve::Release() {
  const base::MutexLock lock(&mu_);
  held_ = false;
  for (int i = 0; i < kFiles; ++i) unlinkat(fd_, NameOf(i).c_str(), 0);
}

}  // namespace backprop::store
