// Free space of a file system, and a reserve of disk space.
#ifndef BACKPROP_SERVER_STORE_DISK_SPACE_H_
#define BACKPROP_SERVER_STORE_DISK_SPACE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"

namespace backprop::store {

// Space of the file system that holds a directory, for unprivileged processes. Does not include
// quotas of users and projects.
struct DiskSpace {
  int64_t free_bytes = 0;
  int64_t capacity_bytes = 0;
  int64_t free_files = 0;  // inodes
  int64_t most_files = 0;  // 0: the file system has no such limit
};
absl::StatusOr<DiskSpace> SpaceOf(int directory_fd);

// Files that occupy disk space, so that it can be released when the disk is full: deletions must be
// logged before they free space, and opening a store writes files. There are several files because
// a disk can also run out of inodes. Thread-safe.
class Reserve {
 public:
  static constexpr int kFiles = 8;

  // The files are in the directory `fd`, which must stay open. With 0 bytes there is no reserve,
  // and Fill() and Release() do nothing.
  Reserve(int fd, int64_t bytes) : fd_(fd), bytes_(bytes) {}

  int64_t bytes() const { return bytes_; }
  // Whether Fill() succeeded and Release() was not called since.
  bool held() const { return held_; }
  // Creates the missing files, if `margin` bytes and enough inodes remain free in addition. Returns
  // false and leaves no new files if there is no space or the directory cannot be written.
  bool Fill(int64_t margin);
  // Deletes the files.
  void Release();

 private:
  bool FillFile(int index, bool* made) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int fd_;
  const int64_t bytes_;
  std::atomic<bool> held_{false};
  base::Mutex mu_;  // guards the files
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_DISK_SPACE_H_
