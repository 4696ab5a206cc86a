#include "server/store/data_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/store/store.h"

namespace backprop::store {

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path,
                                                                   bool create) {
  const auto error = [&](const char* what) {
    return absl::UnavailableError(absl::StrCat(path, ": ", what, ": ", std::strerror(errno)));
  };
  if (create && mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return error("cannot create the directory");
  }
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat self = {};
  if (fd < 0 || fstat(fd, &self) != 0) {
    absl::Status status = error("cannot open the directory");
    if (fd >= 0) close(fd);
    return status;
  }
  return std::unique_ptr<DataDirectory>(new DataDirectory(path, fd, self.st_dev, self.st_ino));
}

DataDirectory::~DataDirectory() { close(fd_); }

absl::Status DataDirectory::Gone(const std::string& what) const {
  absl::Status status = absl::UnavailableError(
      absl::StrCat(path_, ": ", what,
                   "; changes are rejected, because a restart would lose them; put the directory "
                   "back, or stop the server and restore a backup"));
  status.SetPayload(kReasonType, absl::Cord(kDirectoryGone));
  return status;
}

absl::Status DataDirectory::Check() const {
  struct stat open_one = {};
  struct stat named = {};
  if (fstat(fd_, &open_one) != 0 || open_one.st_nlink == 0) {
    return Gone("the data directory was removed");
  }
  if (stat(path_.c_str(), &named) != 0) {
    // Only errors that mean the name is gone; a failing disk is reported elsewhere.
    if (errno != ENOENT && errno != ENOTDIR) return absl::OkStatus();
    return Gone("the data directory was moved or removed");
  }
  if (named.st_dev == device_ && named.st_ino == inode_) return absl::OkStatus();
  return Gone("another directory has replaced the data directory");
}

absl::Status DataDirectory::CheckFile(const std::string& name) const {
  struct stat file = {};
  if (fstatat(fd_, name.c_str(), &file, 0) == 0 || errno != ENOENT) return absl::OkStatus();
  return Gone(absl::StrCat("the file ", name, " of the data directory was removed"));
}

int64_t DataDirectory::LogBytes() const {
  const int fd = openat(fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const directory = fd < 0 ? nullptr : fdopendir(fd);
  if (directory == nullptr) {
    if (fd >= 0) close(fd);
    return 0;
  }
  int64_t bytes = 0;
  while (const dirent* entry = readdir(directory)) {
    struct stat file = {};
    if (absl::EndsWith(entry->d_name, ".log") && fstatat(fd_, entry->d_name, &file, 0) == 0) {
      bytes += file.st_size;
    }
  }
  closedir(directory);
  return bytes;
}

namespace {

// A log of which every sync is timed.
class TimedLog final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  TimedLog(std::unique_ptr<rocksdb::FSWritableFile> file, base::TimeHistogram* syncs)
      : FSWritableFileOwnerWrapper(std::move(file)), syncs_(syncs) {}

  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    const auto begin = std::chrono::steady_clock::now();
    rocksdb::IOStatus status = target()->Sync(options, debug);
    syncs_->Add(std::chrono::steady_clock::now() - begin);
    return status;
  }

 private:
  base::TimeHistogram* const syncs_;
};

}  // namespace

LogWatchingFileSystem::~LogWatchingFileSystem() { Forget(); }

void LogWatchingFileSystem::Forget() {
  const base::MutexLock lock(&mu_);
  for (const auto& [path, fd] : logs_) close(fd);
  logs_.clear();
}

bool LogWatchingFileSystem::LogsHaveNames() const {
  const base::MutexLock lock(&mu_);
  for (const auto& [path, fd] : logs_) {
    struct stat file = {};
    if (fstat(fd, &file) == 0 && file.st_nlink == 0) return false;
  }
  return true;
}

rocksdb::IOStatus LogWatchingFileSystem::NewWritableFile(
    const std::string& path, const rocksdb::FileOptions& options,
    std::unique_ptr<rocksdb::FSWritableFile>* result, rocksdb::IODebugContext* debug) {
  auto status = target()->NewWritableFile(path, options, result, debug);
  if (!status.ok() || !absl::EndsWith(path, ".log")) return status;
  *result = std::make_unique<TimedLog>(std::move(*result), syncs_);
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) return status;
  const base::MutexLock lock(&mu_);
  const auto [it, is_new] = logs_.emplace(path, fd);
  if (!is_new) close(std::exchange(it->second, fd));
  return status;
}

rocksdb::IOStatus LogWatchingFileSystem::DeleteFile(const std::string& path,
                                                    const rocksdb::IOOptions& options,
                                                    rocksdb::IODebugContext* debug) {
  {
    const base::MutexLock lock(&mu_);
    if (const auto it = logs_.find(path); it != logs_.end()) {
      close(it->second);
      logs_.erase(it);
    }
  }
  return target()->DeleteFile(path, options, debug);
}

}  // namespace backprop::store
