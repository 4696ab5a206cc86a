// How much of a disk is free, and a part of it that is set aside.
#ifndef BACKPROP_SERVER_STORE_DISK_SPACE_H_
#define BACKPROP_SERVER_STORE_DISK_SPACE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"

namespace backprop::store {

// Of the file system that holds a directory, for processes without privileges. Quotas of users and
// projects are not in it.
struct DiskSpace {
  int64_t free_bytes = 0;
  int64_t capacity_bytes = 0;
  int64_t free_files = 0;  // inodes
  int64_t most_files = 0;  // 0: the file system has no such limit
};
absl::StatusOr<DiskSpace> SpaceOf(int directory_fd);

// Files that occupy room so that it can be given back when the disk is full: what is deleted has to
// be logged before it frees anything, and opening a store writes files. There are several because a
// disk can also run out of inodes. Thread-safe.
class Reserve {
 public:
  static constexpr int kFiles = 8;

  // In the directory `fd`, which must stay open. 0 bytes: no reserve, Fill and Release do nothing.
  Reserve(int fd, int64_t bytes) : fd_(fd), bytes_(bytes) {}

  int64_t bytes() const { return bytes_; }
  // Whether Fill succeeded and Release was not called since.
  bool held() const { return held_; }
  // Makes what is missing, if `margin` bytes and inodes enough are free besides. False, and nothing
  // is there that was not before, if there is no room or nothing can be written.
  bool Fill(int64_t margin);
  // Gives the room back.
  void Release();

 private:
  bool FillFile(int index, bool* made);

  const int fd_;
  const int64_t bytes_;
  std::atomic<bool> held_{false};
  std::mutex mu_;  // of the files
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_DISK_SPACE_H_
