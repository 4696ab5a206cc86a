// Backup of a store to a file, and restore.
#include "server/transfer/backup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/records/dataset_info.h"
#include "server/records/keys.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/tables.h"
#include "server/store/memory_store.h"
#include "server/store/rocks_store.h"
#include "tests/temporary_directory.h"

namespace backprop::transfer {
namespace {

absl::Status Commit(store::Store* store, store::WriteBatch batch) {
  std::promise<absl::Status> done;
  store->Commit(std::move(batch), store::Durability::kSync, nullptr,
                [&](const absl::Status& status) { done.set_value(status); });
  return done.get_future().get();
}

std::string Everything(store::Store* store) {
  std::string all;
  for (const store::Table* table : records::kTables) {
    EXPECT_TRUE(store
                    ->Scan(*table, "", "",
                           [&](absl::string_view key, absl::string_view value) {
                             absl::StrAppend(&all, table->number, ":", key, "=", value, ";");
                             return true;
                           })
                    .ok());
  }
  return all;
}

// Records of all sizes, up to one that needs several frames, in every table.
void Fill(store::Store* store) {
  store::WriteBatch batch;
  for (const store::Table* table : records::kTables) {
    const bool described =
        table->number == records::kModels.number || table->number == records::kDatasets.number;
    for (int i = 0; i < 50; ++i) {
      batch.Put(*table, absl::StrCat(described ? "default/key-" : "key ", i),
                std::string(static_cast<size_t>(i * i), static_cast<char>(i)));
    }
  }
  batch.Put(records::kStates, "large", std::string(size_t{5} << 20, 'x'));
  batch.Put(records::kStates, "empty", "");
  ASSERT_TRUE(Commit(store, std::move(batch)).ok());
}

std::string FileOf(store::Store* store, const std::string& project = "") {
  BackupReader reader(*store->TakeSnapshot(), project);
  std::string file;
  for (;;) {
    const auto piece = reader.Next();
    EXPECT_TRUE(piece.ok()) << piece.status();
    if (!piece->has_value()) return file;
    EXPECT_FALSE((*piece)->empty());
    EXPECT_LE((*piece)->size(), size_t{1} << 20);
    file += **piece;
  }
}

absl::Status Restore(store::Store* store, absl::string_view file, size_t at_once) {
  BackupWriter writer(store);
  for (size_t at = 0; at < file.size(); at += at_once) {
    std::promise<absl::Status> added;
    writer.Add(file.substr(at, at_once),
               [&](const absl::Status& status) { added.set_value(status); });
    absl::Status status = added.get_future().get();
    if (!status.ok()) return status;
  }
  std::promise<absl::Status> finished;
  writer.Finish([&](const absl::Status& status) { finished.set_value(status); });
  return finished.get_future().get();
}

TEST(BackupTest, ARoundTripIsExactAndTheFileIsTheSame) {
  TemporaryDirectory directory;
  store::RocksOptions options;
  options.directory = directory.path() + "/data";
  options.schema = records::kSchema;
  const auto rocks = *store::OpenRocksStore(options);
  store::MemoryStore memory, other;
  Fill(rocks.get());
  Fill(&memory);
  const std::string file = FileOf(rocks.get());
  EXPECT_EQ(file, FileOf(&memory));
  store::WriteBatch stale;
  stale.Put(records::kRequests, "stale", "1");
  ASSERT_TRUE(Commit(&other, std::move(stale)).ok());
  ASSERT_TRUE(Restore(&other, file, 1000).ok());
  EXPECT_EQ(Everything(&other), Everything(&memory));
  EXPECT_FALSE(*DropUnfinishedRestore(&other));
}

TEST(BackupTest, AnEmptyStoreHasABackup) {
  store::MemoryStore empty, other;
  EXPECT_TRUE(Restore(&other, FileOf(&empty), 10).ok());
  EXPECT_EQ(Everything(&other), "");
}

// Everything that belongs to one model, one dataset and their creation, in the tables of all kinds.
void AddProject(const std::string& project, records::Uid uid, store::WriteBatch* batch) {
  const std::string mark = absl::StrCat("of ", project);
  records::StoredModel model;
  model.uid = uid;
  batch->Put(records::kModels, records::ScopedId(project, "m"), records::EncodeModel(model));
  records::DatasetInfo dataset;
  dataset.id = records::ScopedId(project, "d");
  dataset.uid = uid + 1;
  batch->Put(records::kDatasets, dataset.id, records::EncodeDataset(dataset));
  batch->Put(records::kDatasetRows, records::DatasetRowsKey(uid + 1, 0), mark);
  batch->Put(records::kStates, records::UidKey(uid), mark);
  for (const store::Table* table :
       {&records::kRequests, &records::kLog, &records::kChunks, &records::kCheckpoints}) {
    batch->Put(*table, records::UidKey(uid) + '\x01', mark + std::string(200'000, 'x'));
    batch->Put(*table, records::UidKey(uid) + '\xff', mark);
  }
  for (const records::RunPart part : records::kRunParts) {
    batch->Put(records::kRuns, records::RunKey(uid, part), mark);
  }
  records::RegistryResponse created;
  created.key.id = records::ScopedRequestId(project, "request " + mark);
  batch->Put(records::kRequests,
             records::RegistryResponseKey(records::RegistryRequestKind::kCreate, 3,
                                          static_cast<uint16_t>(uid)),
             records::EncodeRegistryResponse(created));
}

TEST(BackupTest, ABackupOfAProjectHoldsAllOfItAndNothingOfOthers) {
  const std::pair<std::string, records::Uid> projects[] = {
      {"default", 0x1000}, {"alpha", 0x10ff}, {"alpha-2", 0x1200}};
  store::MemoryStore all;
  for (const auto& [project, uid] : projects) {
    store::WriteBatch batch;
    AddProject(project, uid, &batch);
    ASSERT_TRUE(Commit(&all, std::move(batch)).ok());
  }
  for (const auto& [project, uid] : projects) {
    SCOPED_TRACE(project);
    store::MemoryStore expected, restored;
    store::WriteBatch batch;
    AddProject(project, uid, &batch);
    ASSERT_TRUE(Commit(&expected, std::move(batch)).ok());
    const std::string file = FileOf(&all, project);
    ASSERT_TRUE(Restore(&restored, file, 100'000).ok());
    EXPECT_EQ(Everything(&restored), Everything(&expected));
    EXPECT_EQ(file, FileOf(&expected)) << "the file is that of a server with this project only";
  }
  store::MemoryStore nothing;
  ASSERT_TRUE(Restore(&nothing, FileOf(&all, "beta"), 100).ok());
  EXPECT_EQ(Everything(&nothing), "");
}

TEST(BackupTest, ADamagedDescriptionEndsTheBackupOfItsProjectOnly) {
  store::MemoryStore store;
  store::WriteBatch batch;
  AddProject("alpha", 0x1000, &batch);
  batch.Put(records::kModels, "beta/m", "damaged");
  ASSERT_TRUE(Commit(&store, std::move(batch)).ok());
  BackupReader damaged(*store.TakeSnapshot(), "beta");
  EXPECT_EQ(damaged.Next().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(FileOf(&store, "alpha").empty());
  EXPECT_FALSE(FileOf(&store).empty());
}

TEST(BackupTest, DamagedAndTruncatedFilesAreRejectedAndDropped) {
  store::MemoryStore store;
  store::WriteBatch batch;
  for (int i = 0; i < 20; ++i)
    batch.Put(records::kModels, absl::StrCat("default/", i), "some value");
  ASSERT_TRUE(Commit(&store, std::move(batch)).ok());
  const std::string file = FileOf(&store);
  for (size_t at = 0; at < file.size(); ++at) {
    SCOPED_TRACE(at);
    store::MemoryStore other;
    std::string flipped = file;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    EXPECT_EQ(Restore(&other, flipped, 100).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Restore(&other, file.substr(0, at), 100).code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(DropUnfinishedRestore(&other).ok());
    EXPECT_EQ(Everything(&other), "");
  }
}

// What a restore of a backup with one more record says.
absl::Status RestoreWith(const store::Table& table, const std::string& key,
                         const std::string& value) {
  store::MemoryStore store, other;
  store::WriteBatch batch;
  AddProject("alpha", 0x1000, &batch);
  batch.Put(table, key, value);
  EXPECT_TRUE(Commit(&store, std::move(batch)).ok());
  return Restore(&other, FileOf(&store), 1000);
}

TEST(BackupTest, RecordsThatCannotBeOfAServerAreRejected) {
  records::StoredModel model;
  model.uid = 0x2000;
  EXPECT_TRUE(RestoreWith(records::kModels, "beta/m", records::EncodeModel(model)).ok());
  EXPECT_TRUE(RestoreWith(records::kModels, "beta/m", "damaged").ok()) << "its users are told";
  const auto expect_says = [](const absl::Status& status, const std::string& says) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(says), std::string::npos) << status;
  };
  for (const char* key : {"m", "alpha/", "/m", "alpha/a/b", "alpha/\xff", "alpha/M"}) {
    expect_says(RestoreWith(records::kModels, key, "x"), "contains a model with the key \"");
    expect_says(RestoreWith(records::kDatasets, key, "x"), "contains a dataset with the key \"");
  }
  // Deleting one of two models with one uid would delete the records of the other.
  model.uid = 0x1000;
  expect_says(RestoreWith(records::kModels, "beta/m", records::EncodeModel(model)),
              "contains a model \"beta/m\" with the uid of an earlier model");
  records::DatasetInfo dataset;
  dataset.id = "beta/d";
  dataset.uid = 0x1001;
  expect_says(RestoreWith(records::kDatasets, dataset.id, records::EncodeDataset(dataset)),
              "contains a dataset \"beta/d\" with the uid of an earlier dataset");
  dataset.uid = 0x1000;
  EXPECT_TRUE(RestoreWith(records::kDatasets, dataset.id, records::EncodeDataset(dataset)).ok());
  expect_says(RestoreWith(records::kStates, std::string(2000, 'k'), "x"), "of an unknown kind");
}

TEST(BackupTest, ANewerFormatIsRejected) {
  FrameWriter frames;
  std::string file = FrameWriter::Begin(absl::string_view("BPBACKU\x01", 8));
  file += frames.Frame(absl::StrCat("format ", records::kFormatVersion + 1));
  file += frames.End();
  store::MemoryStore store;
  const absl::Status refused = Restore(&store, file, 1000);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
}

}  // namespace
}  // namespace backprop::transfer
