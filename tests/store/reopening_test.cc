// The database is closed and cannot be opened again while a group is being admitted.
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "server/store/rocks_store.h"
#include "tests/notification.h"
#include "tests/store/tables.h"
#include "tests/temporary_directory.h"

namespace backprop::store {
namespace {

// A full disk: the log can be written, but no table. The second attempt to write a table, which is
// the first attempt of the writer thread to recover, waits for `go`. After the third one, nothing
// can be opened until Repair(). Thread-safe.
class FullDisk final : public rocksdb::FileSystemWrapper {
 public:
  FullDisk() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FullDisk"; }
  void Repair() { works_ = true; }
  int tables() const { return tables_; }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    if (works_ || !absl::EndsWith(path, ".sst")) {
      return target()->NewWritableFile(path, options, result, debug);
    }
    const int number = ++tables_;
    if (number == 2) {
      recovering.Notify();
      go.WaitForNotification();
    }
    // Longer than the pause after an attempt to recover.
    if (number == 3) std::this_thread::sleep_for(std::chrono::milliseconds(600));
    if (number > 3) return rocksdb::IOStatus::IOError("the test's disk is gone");
    return rocksdb::IOStatus::NoSpace("the test's disk is full");
  }
  rocksdb::IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                      rocksdb::IODebugContext* debug) override {
    if (!works_ && tables_ > 3) return rocksdb::IOStatus::IOError("the test's disk is gone");
    return target()->NewSequentialFile(path, options, result, debug);
  }

  Notification recovering;
  Notification go;

 private:
  std::atomic<bool> works_{false};
  std::atomic<int> tables_{0};
};

// Calls `done` of a batch.
struct Answer {
  Store::Done Done() {
    return [this](const absl::Status& answer) {
      status = answer;
      answered.Notify();
    };
  }
  absl::Status status;
  Notification answered;
};

TEST(ReopeningTest, AGroupFailsIfTheDatabaseWasClosedWhileItWasAdmitted) {
  const TemporaryDirectory directory;
  const TemporaryDirectory crashed;
  const std::string copy = crashed.path() + "/copy";
  RocksOptions options;
  options.schema = kTestSchema;
  {
    options.directory = directory.path();
    const auto store = *OpenRocksStore(options);
    WriteBatch batch;
    batch.Put(kPlain, "a", "1");
    Answer answer;
    store->Commit(std::move(batch), Durability::kSync, nullptr, answer.Done());
    answer.answered.WaitForNotification();
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    std::filesystem::copy(directory.path(), copy, std::filesystem::copy_options::recursive);
  }
  const auto disk = std::make_shared<FullDisk>();
  const auto env = rocksdb::NewCompositeEnv(disk);
  options.directory = copy;
  options.env = env.get();
  const auto store = *OpenRocksStore(options);
  EXPECT_TRUE(absl::IsResourceExhausted(store->health())) << store->health();
  disk->recovering.WaitForNotification();
  // Both are in the next group. The deletion is admitted, although the disk is full. The addition
  // makes the store recover, which fails and leaves no database.
  WriteBatch deletion, addition;
  deletion.Delete(kPlain, "b");
  addition.Put(kPlain, "c", "3");
  Answer deleted, added;
  store->Commit(std::move(deletion), Durability::kSync, nullptr, deleted.Done());
  store->Commit(std::move(addition), Durability::kSync, nullptr, added.Done());
  disk->go.Notify();
  deleted.answered.WaitForNotification();
  added.answered.WaitForNotification();
  EXPECT_EQ(disk->tables(), 4);
  EXPECT_FALSE(deleted.status.ok());
  EXPECT_FALSE(added.status.ok());
  EXPECT_FALSE(store->Get(kPlain, "a").ok());
  disk->Repair();
  for (int wait = 0; wait < 5000 && !store->health().ok(); ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(store->health().ok()) << store->health();
  EXPECT_EQ(**store->Get(kPlain, "a"), "1");
}

}  // namespace
}  // namespace backprop::store
