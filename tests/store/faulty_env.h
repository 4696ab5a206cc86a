// A file system that fails when a test requests it, and loses what was not synced.
#ifndef BACKPROP_TESTS_STORE_FAULTY_ENV_H_
#define BACKPROP_TESTS_STORE_FAULTY_ENV_H_

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace backprop::store {

enum class Fault {
  kError,    // the call fails, once
  kNoSpace,  // the disk is full, for this call
  kTorn,     // half of the bytes are written, once
  kCrash     // this call and all later ones fail
};

// Counts the calls that change files; the k-th one has the fault. Thread-safe.
class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FaultyFileSystem(Fault fault, int64_t at)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), fault_(fault), at_(at) {}

  const char* Name() const override { return "FaultyFileSystem"; }
  bool met() const {
    const std::lock_guard lock(mu_);
    return calls_ >= at_;
  }

  // The contents after a power failure: of every file the synced part.
  void LosePower() {
    const std::lock_guard lock(mu_);
    for (const auto& [path, bytes] : synced_) {
      if (std::filesystem::exists(path)) std::filesystem::resize_file(path, bytes);
    }
  }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    if (const auto status = Next(); !status.ok()) return status;
    std::unique_ptr<rocksdb::FSWritableFile> file;
    const auto status = target()->NewWritableFile(path, options, &file, debug);
    if (status.ok()) {
      SetSynced(path, 0);
      *result = std::make_unique<File>(this, path, std::move(file));
    }
    return status;
  }

  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (const auto status = Next(); !status.ok()) return status;
    const auto status = target()->RenameFile(from, to, options, debug);
    const std::lock_guard lock(mu_);
    if (const auto it = synced_.find(from); status.ok() && it != synced_.end()) {
      synced_[to] = it->second;
      synced_.erase(it);
    }
    return status;
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(FaultyFileSystem* system, std::string path, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), system_(system), path_(std::move(path)) {}

    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      const auto status = system_->Next();
      if (!status.ok()) {
        if (system_->fault_ == Fault::kTorn) {
          target()
              ->Append(rocksdb::Slice(data.data(), data.size() / 2), options, debug)
              .PermitUncheckedError();
        }
        return status;
      }
      return target()->Append(data, options, debug);
    }
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             const rocksdb::DataVerificationInfo&,
                             rocksdb::IODebugContext* debug) override {
      return Append(data, options, debug);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      if (const auto status = system_->Next(); !status.ok()) return status;
      const auto status = target()->Sync(options, debug);
      if (status.ok()) system_->SetSynced(path_, target()->GetFileSize(options, debug));
      return status;
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* debug) override {
      return Sync(options, debug);
    }

   private:
    FaultyFileSystem* const system_;
    const std::string path_;
  };

  rocksdb::IOStatus Next() {
    const std::lock_guard lock(mu_);
    ++calls_;
    if (calls_ < at_ || (calls_ > at_ && fault_ != Fault::kCrash)) return rocksdb::IOStatus::OK();
    if (fault_ == Fault::kNoSpace) return rocksdb::IOStatus::NoSpace("the test's disk is full");
    return rocksdb::IOStatus::IOError("the test's fault");
  }

  void SetSynced(const std::string& path, uint64_t bytes) {
    const std::lock_guard lock(mu_);
    synced_[path] = bytes;
  }

  const Fault fault_;
  const int64_t at_;
  mutable std::mutex mu_;
  int64_t calls_ = 0;                       // under mu_
  std::map<std::string, uint64_t> synced_;  // under mu_
};

}  // namespace backprop::store

#endif  // BACKPROP_TESTS_STORE_FAULTY_ENV_H_
