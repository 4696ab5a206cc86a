// The directory of a store: that it is still the one that was opened, with all its files.
#ifndef BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_
#define BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_

#include <rocksdb/file_system.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace backprop::store {

// A directory that is held open, so that it can be told from another one that takes its name.
// A process can go on writing to files that have lost their names; nobody finds them after its end.
// Thread-safe.
class DataDirectory {
 public:
  // Makes the directory if `create`, but not its parents. UNAVAILABLE, NOT_FOUND.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path, bool create);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  // UNAVAILABLE (kDirectoryGone) if the path leads to nothing or to another directory: it was
  // removed, moved, or something was mounted over it. Two system calls.
  absl::Status Check() const;
  // Of the code that they return; `what` says what is gone.
  absl::Status Gone(const std::string& what) const;
  // The same if it has no file of this name.
  absl::Status CheckFile(const std::string& name) const;
  // Bytes in RocksDB's logs.
  int64_t LogBytes() const;

 private:
  DataDirectory(std::string path, int fd, uint64_t device, uint64_t inode)
      : path_(std::move(path)), fd_(fd), device_(device), inode_(inode) {}

  const std::string path_;
  const int fd_;
  const uint64_t device_;
  const uint64_t inode_;
};

// Passes everything on and keeps a descriptor of each log that RocksDB writes, to see whether it
// still has its name. Thread-safe.
class LogWatchingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit LogWatchingFileSystem(const std::shared_ptr<rocksdb::FileSystem>& target)
      : FileSystemWrapper(target) {}
  ~LogWatchingFileSystem() override;

  const char* Name() const override { return "LogWatchingFileSystem"; }
  // Whether each log has its name. One system call per log; there are few.
  bool LogsHaveNames() const;
  // Of a database that was closed.
  void Forget();

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;

 private:
  mutable std::mutex mu_;
  std::map<std::string, int> logs_;  // path to descriptor, under mu_
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_
