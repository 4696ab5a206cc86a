#include "server/store/disk_space.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/store/data_directory.h"
#include "server/store/rocks_status.h"
#include "server/store/rocks_store.h"
#include "server/store/store.h"
#include "tests/store/tables.h"
#include "tests/temporary_directory.h"

namespace backprop::store {
namespace {

namespace fs = std::filesystem;

int64_t BytesIn(const std::string& directory) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory)) {
    bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

TEST(ReserveTest, IsFilledReleasedAndFilledAgain) {
  const TemporaryDirectory directory;
  const auto data = *DataDirectory::Open(directory.path(), false);
  Reserve reserve(data->fd(), 8 << 20);
  EXPECT_FALSE(reserve.held());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(reserve.Fill(0));
    EXPECT_TRUE(reserve.held());
    EXPECT_EQ(BytesIn(directory.path()), 8 << 20);
    fs::resize_file(directory.path() + "/reserve.3", 10);  // truncated: is filled again
    ASSERT_TRUE(reserve.Fill(0));
    EXPECT_EQ(BytesIn(directory.path()), 8 << 20);
    reserve.Release();
    EXPECT_FALSE(reserve.held());
    EXPECT_EQ(BytesIn(directory.path()), 0);
  }
}

TEST(ReserveTest, LeavesNoFilesIfThereIsNoSpace) {
  const TemporaryDirectory directory;
  const auto data = *DataDirectory::Open(directory.path(), false);
  const auto space = *SpaceOf(data->fd());
  Reserve reserve(data->fd(), 8 << 20);
  EXPECT_FALSE(reserve.Fill(space.capacity_bytes));
  EXPECT_FALSE(reserve.held());
  EXPECT_EQ(BytesIn(directory.path()), 0);
}

TEST(DataDirectoryTest, DetectsRemovalAndReplacement) {
  const TemporaryDirectory parent;
  const std::string path = parent.path() + "/data";
  EXPECT_FALSE(DataDirectory::Open(path, false).ok());
  const auto data = *DataDirectory::Open(path, true);
  EXPECT_TRUE(data->Check().ok());
  EXPECT_TRUE(HasReason(data->CheckFile("CURRENT"), kDirectoryGone));
  std::ofstream(path + "/CURRENT") << "x";
  EXPECT_TRUE(data->CheckFile("CURRENT").ok());
  fs::rename(path, path + ".away");
  EXPECT_TRUE(HasReason(data->Check(), kDirectoryGone));
  fs::create_directory(path);
  EXPECT_TRUE(HasReason(data->Check(), kDirectoryGone)) << "another directory";
  fs::remove(path);
  fs::rename(path + ".away", path);
  EXPECT_TRUE(data->Check().ok()) << data->Check();
  fs::remove_all(path);
  EXPECT_TRUE(HasReason(data->Check(), kDirectoryGone));
}

TEST(RocksStatusTest, AnExceededQuotaIsAFullDisk) {
  const auto quota = rocksdb::Status::IOError("While appending to file", std::strerror(EDQUOT));
  EXPECT_TRUE(absl::IsResourceExhausted(FromRocks(quota, "/data")));
  const auto other = rocksdb::Status::IOError("While appending to file", std::strerror(EIO));
  EXPECT_TRUE(absl::IsUnavailable(FromRocks(other, "/data")));
}

TEST(RocksStoreSpaceTest, BulkDataLeavesTheMinimumFree) {
  const TemporaryDirectory directory;
  RocksOptions options;
  options.schema = kTestSchema;
  options.directory = directory.path();
  options.min_free_bytes = 1;
  {
    const auto store = *OpenRocksStore(options);
    EXPECT_TRUE(store->CheckRoom(1).ok());
    EXPECT_TRUE(HasReason(store->CheckRoom(int64_t{1} << 60), kLowDiskSpace));
  }
  options.min_free_bytes = int64_t{1} << 60;
  const auto store = *OpenRocksStore(options);
  EXPECT_TRUE(HasReason(store->CheckRoom(0), kLowDiskSpace));
  EXPECT_TRUE(store->health().ok()) << "other changes are accepted";
}

}  // namespace
}  // namespace backprop::store
