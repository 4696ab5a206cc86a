// The data directory of a store, and checks that it and its files are still in place.
#ifndef BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_
#define BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_

#include <rocksdb/file_system.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/counters.h"
#include "server/base/mutex.h"

namespace backprop::store {

// A data directory. It is held open, so that another directory under the same path is detected.
// This is needed because a process can continue to write to deleted files, whose contents are lost
// when the process ends. Thread-safe.
class DataDirectory {
 public:
  // Opens the directory; with `create`, creates it, but not its parents. Errors: UNAVAILABLE,
  // NOT_FOUND.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path, bool create);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  // UNAVAILABLE (kDirectoryGone) if the path no longer leads to this directory: it was removed or
  // moved, or another file system was mounted over it. Costs two system calls.
  absl::Status Check() const;
  // The error that the checks return; `what` says what is missing.
  absl::Status Gone(const std::string& what) const;
  // UNAVAILABLE (kDirectoryGone) if the directory has no file `name`.
  absl::Status CheckFile(const std::string& name) const;
  // Size of RocksDB's write-ahead logs, in bytes.
  int64_t LogBytes() const;

 private:
  DataDirectory(std::string path, int fd, uint64_t device, uint64_t inode)
      : path_(std::move(path)), fd_(fd), device_(device), inode_(inode) {}

  const std::string path_;
  const int fd_;
  const uint64_t device_;
  const uint64_t inode_;
};

// A file system that forwards all calls and keeps a descriptor of each write-ahead log that RocksDB
// creates, to detect whether the log was removed. Thread-safe.
class LogWatchingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  // `syncs` gets the time of each sync of a log. It must outlive the files.
  LogWatchingFileSystem(const std::shared_ptr<rocksdb::FileSystem>& target,
                        base::TimeHistogram* syncs)
      : FileSystemWrapper(target), syncs_(syncs) {}
  ~LogWatchingFileSystem() override;

  const char* Name() const override { return "LogWatchingFileSystem"; }
  // Whether no log was removed by others. Costs one system call per log; there are few.
  bool LogsHaveNames() const;
  // Stops watching the logs of a database that was closed.
  void Forget();

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;

 private:
  base::TimeHistogram* const syncs_;
  mutable base::Mutex mu_;
  std::map<std::string, int> logs_ ABSL_GUARDED_BY(mu_);  // path to descriptor
};

}  // namespace backprop::store

#endif  // BACKPROP_SERVER_STORE_DATA_DIRECTORY_H_
