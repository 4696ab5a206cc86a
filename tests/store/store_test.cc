#include "server/store/store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/store/memory_store.h"
#include "server/store/rocks_store.h"
#include "tests/notification.h"
#include "tests/store/tables.h"
#include "tests/temporary_directory.h"

namespace backprop::store {
namespace {

absl::Status Commit(Store* store, WriteBatch batch, Durability durability = Durability::kSync) {
  Notification committed;
  absl::Status answer;
  store->Commit(std::move(batch), durability, nullptr, [&](const absl::Status& status) {
    answer = status;
    committed.Notify();
  });
  committed.WaitForNotification();
  return answer;
}

WriteBatch Put(const std::string& key, const std::string& value, const Table& table = kPlain) {
  WriteBatch batch;
  batch.Put(table, key, value);
  return batch;
}

std::vector<std::string> Keys(Store* store, const std::string& first, const std::string& end,
                              const Table& table = kPlain) {
  std::vector<std::string> keys;
  EXPECT_TRUE(store
                  ->Scan(table, first, end,
                         [&](absl::string_view key, absl::string_view) {
                           keys.emplace_back(key);
                           return true;
                         })
                  .ok());
  return keys;
}

// Requirements of every store.
class StoreTest : public testing::TestWithParam<const char*> {
 protected:
  StoreTest() {
    if (GetParam() == std::string("memory")) {
      store = std::make_unique<MemoryStore>();
    } else {
      RocksOptions options;
      options.schema = kTestSchema;
      options.directory = directory.path() + "/data";
      auto opened = OpenRocksStore(options);
      EXPECT_TRUE(opened.ok()) << opened.status();
      store = *std::move(opened);
    }
  }

  TemporaryDirectory directory;
  std::unique_ptr<Store> store;
};

TEST_P(StoreTest, ASnapshotDoesNotChange) {
  ASSERT_TRUE(Commit(store.get(), Put("a", "1")).ok());
  auto snapshot = store->TakeSnapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  ASSERT_TRUE(Commit(store.get(), Put("a", "2")).ok());
  ASSERT_TRUE(Commit(store.get(), Put("b", "1")).ok());
  std::string seen;
  ASSERT_TRUE((*snapshot)
                  ->Scan(kPlain, "", "",
                         [&](absl::string_view key, absl::string_view value) {
                           seen += std::string(key) + "=" + std::string(value) + ";";
                           return true;
                         })
                  .ok());
  EXPECT_EQ(seen, "a=1;");
}

TEST_P(StoreTest, AnEmptyPrefixIsTheWholeTable) {
  ASSERT_TRUE(Commit(store.get(), Put(std::string(64, '\xff'), "1")).ok());
  ASSERT_TRUE(Commit(store.get(), Put("a", "1")).ok());
  ASSERT_TRUE(Commit(store.get(), Put("a", "1", kNumbers)).ok());
  WriteBatch batch;
  batch.DeletePrefix(kPlain, "");
  ASSERT_TRUE(Commit(store.get(), std::move(batch)).ok());
  EXPECT_TRUE(Keys(store.get(), "", "").empty());
  EXPECT_EQ(Keys(store.get(), "", "", kNumbers).size(), 1u);
}

TEST_P(StoreTest, CommittedRecordsCanBeRead) {
  EXPECT_FALSE(store->Get(kPlain, "a")->has_value());
  ASSERT_TRUE(Commit(store.get(), Put("a", std::string("1\0\xff", 3))).ok());
  EXPECT_EQ(**store->Get(kPlain, "a"), std::string("1\0\xff", 3));
  EXPECT_FALSE(store->Get(kNumbers, "a")->has_value()) << "tables are separate";
  WriteBatch erased;
  erased.Delete(kPlain, "a");
  ASSERT_TRUE(Commit(store.get(), std::move(erased)).ok());
  EXPECT_FALSE(store->Get(kPlain, "a")->has_value());
}

TEST_P(StoreTest, OperationsOfABatchApplyInOrder) {
  WriteBatch batch;
  batch.Put(kPlain, "pa", "old");
  batch.DeletePrefix(kPlain, "p");
  batch.Put(kPlain, "pb", "new");
  ASSERT_TRUE(Commit(store.get(), std::move(batch)).ok());
  EXPECT_EQ(Keys(store.get(), "", ""), std::vector<std::string>{"pb"});
}

TEST_P(StoreTest, ScansAreOrderedAndBounded) {
  for (const std::string& key : {std::string("b"), std::string("a"), std::string("b\0", 2),
                                 std::string("c"), std::string("\xff")}) {
    ASSERT_TRUE(Commit(store.get(), Put(key, key)).ok());
  }
  EXPECT_EQ(Keys(store.get(), "", ""),
            (std::vector<std::string>{"a", "b", std::string("b\0", 2), "c", "\xff"}));
  EXPECT_EQ(Keys(store.get(), "b", "c"), (std::vector<std::string>{"b", std::string("b\0", 2)}));
  EXPECT_EQ(Keys(store.get(), "\xff", EndOfPrefix("\xff")), std::vector<std::string>{"\xff"});
}

TEST_P(StoreTest, CallbacksRunInTheOrderOfCommits) {
  std::vector<int> order;
  Notification last;
  for (int i = 0; i < 1000; ++i) {
    store->Commit(i % 3 == 0 ? WriteBatch() : Put("k", std::to_string(i)),
                  i % 2 == 0 ? Durability::kSync : Durability::kNone, nullptr,
                  [&, i](const absl::Status& status) {
                    EXPECT_TRUE(status.ok());
                    order.push_back(i);
                    if (i == 999) last.Notify();
                  });
  }
  last.WaitForNotification();
  ASSERT_EQ(order.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(**store->Get(kPlain, "k"), "998");
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, testing::Values("memory", "rocksdb"),
                         [](const auto& test) { return std::string(test.param); });

class RocksStoreTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Store>> Open() {
    RocksOptions options;
    options.schema = kTestSchema;
    options.directory = directory.path();
    return OpenRocksStore(options);
  }
  std::unique_ptr<Store> MustOpen() {
    auto store = Open();
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  // A copy of the current files: what a crash of the process leaves.
  std::string CrashCopy() {
    const std::string copy = crashed.path() + "/copy";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(directory.path(), copy, std::filesystem::copy_options::recursive);
    return copy;
  }

  TemporaryDirectory directory;
  TemporaryDirectory crashed;
};

TEST_F(RocksStoreTest, RecordsSurviveARestart) {
  {
    const auto store = MustOpen();
    ASSERT_TRUE(Commit(store.get(), Put("a", "1"), Durability::kSync).ok());
    ASSERT_TRUE(Commit(store.get(), Put("b", "2"), Durability::kEverySecond).ok());
    ASSERT_TRUE(Commit(store.get(), Put("c", "3"), Durability::kNone).ok());
  }
  const auto store = MustOpen();
  EXPECT_EQ(Keys(store.get(), "", ""), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(RocksStoreTest, ASecondServerCannotOpenIt) {
  const auto store = MustOpen();
  const auto second = Open();
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(second.status().message().find("another server"), std::string::npos) << second.status();
}

TEST_F(RocksStoreTest, ALaterFormatCannotBeOpened) {
  {
    const auto store = MustOpen();
    ASSERT_TRUE(
        Commit(store.get(), Put("format", std::to_string(kTestSchema.format_version + 1), kMeta))
            .ok());
  }
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kFailedPrecondition);
}

// The newest log of a store that crashed.
std::string NewestLog(const std::string& directory) {
  std::string newest;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".log" && entry.path().string() > newest) {
      newest = entry.path().string();
    }
  }
  return newest;
}

// If an acknowledged record at the end of the log is cut off, the log looks like one that a crash
// truncated; the watermark detects it.
TEST_F(RocksStoreTest, ATruncatedLogIsDataLoss) {
  const auto store = MustOpen();
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(Commit(store.get(), Put(key, "1")).ok());
  RocksOptions options;
  options.schema = kTestSchema;
  options.directory = CrashCopy();
  {
    const auto whole = OpenRocksStore(options);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(Keys(whole->get(), "", ""), (std::vector<std::string>{"a", "b", "c"}));
  }
  options.directory = CrashCopy();
  const std::string log = NewestLog(options.directory);
  const auto bytes = std::filesystem::file_size(log);
  for (const uintmax_t cut : {uintmax_t{1}, uintmax_t{40}, bytes / 2}) {
    options.directory = CrashCopy();
    std::filesystem::resize_file(NewestLog(options.directory), bytes - cut);
    const auto short_of = OpenRocksStore(options);
    EXPECT_EQ(short_of.status().code(), absl::StatusCode::kDataLoss) << cut << " bytes are missing";
  }
}

// Damages each byte of the log in turn: the store is rejected, or has its contents.
TEST_F(RocksStoreTest, AFlippedByteOfTheLogIsDetected) {
  const auto store = MustOpen();
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(Commit(store.get(), Put(key, "1")).ok());
  RocksOptions options;
  options.schema = kTestSchema;
  options.directory = CrashCopy();
  const std::string log = NewestLog(options.directory);
  const auto bytes = std::filesystem::file_size(log);
  ASSERT_GT(bytes, 0u);
  int refused = 0;
  for (uintmax_t at = 0; at < bytes; at += 7) {
    options.directory = CrashCopy();
    {
      std::fstream file(NewestLog(options.directory),
                        std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(at));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(byte ^ 0x20));
    }
    const auto flipped = OpenRocksStore(options);
    if (!flipped.ok()) {
      EXPECT_EQ(flipped.status().code(), absl::StatusCode::kDataLoss) << flipped.status();
      ++refused;
      continue;
    }
    EXPECT_EQ(Keys(flipped->get(), "", ""), (std::vector<std::string>{"a", "b", "c"})) << at;
  }
  EXPECT_GT(refused, 0);
}

class ReclaimTest : public testing::Test {
 protected:
  ReclaimTest() {
    options_.schema = kTestSchema;
    options_.directory = directory_.path() + "/data";
  }

  // The bytes of all files but logs.
  uintmax_t size() const {
    uintmax_t bytes = 0;
    std::error_code gone;  // a file may be deleted meanwhile
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory)) {
      const auto file = entry.file_size(gone);
      if (!gone && entry.path().extension() != ".log") bytes += file;
    }
    return bytes;
  }

  // Stores `count` rows of 1 MiB, whose keys begin with each of `prefixes` in turn, and closes the
  // store.
  void Fill(const std::vector<std::string>& prefixes, int count) const {
    const auto store = *OpenRocksStore(options_);
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(Commit(store.get(), Put(prefixes[i % prefixes.size()] + std::to_string(100 + i),
                                          std::string(size_t{1} << 20, 'x'), kRows))
                      .ok());
    }
  }

  // Deletes a prefix, and waits until the files have less than `most` bytes.
  void DeleteAndWait(Store* store, const std::string& prefix, uintmax_t most) const {
    WriteBatch batch;
    batch.DeletePrefix(kRows, prefix);
    ASSERT_TRUE(Commit(store, std::move(batch)).ok());
    for (int i = 0; i < 2000 && size() > most; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_LT(size(), most);
  }

  TemporaryDirectory directory_;
  RocksOptions options_;
};

// The disk space of a deleted dataset is reclaimed, without further writes.
TEST_F(ReclaimTest, TheSpaceOfDeletedRecordsIsReclaimed) {
  Fill({"d"}, 40);
  const auto store = *OpenRocksStore(options_);
  EXPECT_GT(size(), uintmax_t{40} << 20);
  DeleteAndWait(store.get(), "d", uintmax_t{2} << 20);
}

// So is the space of values that are in one file with values that stay.
TEST_F(ReclaimTest, FilesThatHoldOtherValuesTooAreReclaimed) {
  Fill({"d", "e"}, 40);
  const auto store = *OpenRocksStore(options_);
  EXPECT_GT(size(), uintmax_t{40} << 20);
  DeleteAndWait(store.get(), "d", uintmax_t{28} << 20);  // 20 MiB, and a quarter of garbage
  EXPECT_EQ(Keys(store.get(), "", "", kRows).size(), 20u);
}

}  // namespace
}  // namespace backprop::store
