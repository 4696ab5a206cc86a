#include "server/records/upgrade.h"

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/tables.h"
#include "server/store/memory_store.h"
#include "server/store/store.h"

namespace backprop::records {
namespace {

// Passes on the first `commits` batches, then rejects all, as if the process had ended.
class StoreThatStops : public store::Store {
 public:
  StoreThatStops(store::Store* behind, int commits) : behind_(behind), left_(commits) {}

  void Commit(store::WriteBatch batch, store::Durability durability,
              std::shared_ptr<store::Chain> chain, Done done) override {
    if (left_-- > 0) {
      return behind_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
    }
    done(absl::UnavailableError("stopped"));
  }
  absl::StatusOr<std::optional<std::string>> Get(const store::Table& table,
                                                 absl::string_view key) override {
    return behind_->Get(table, key);
  }
  absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    return behind_->Scan(table, first, end, visit);
  }
  absl::StatusOr<std::unique_ptr<store::Snapshot>> TakeSnapshot() override {
    return behind_->TakeSnapshot();
  }
  absl::Status health() const override { return behind_->health(); }

 private:
  store::Store* const behind_;
  int left_;
};

class UpgradeTest : public testing::Test {
 protected:
  void Commit(store::WriteBatch batch) {
    std::promise<absl::Status> committed;
    store.Commit(std::move(batch), store::Durability::kSync, nullptr,
                 [&](const absl::Status& status) { committed.set_value(status); });
    ASSERT_TRUE(committed.get_future().get().ok());
  }

  // What a server of format 1 has stored.
  void FillWithFormat1() {
    store::WriteBatch batch;
    batch.Put(store::kMeta, store::kFormatKey, "1");
    for (int i = 0; i < 7; ++i) batch.Put(kModels, absl::StrCat("m", i), absl::StrCat("model ", i));
    // Sorts before and after the names of the default project.
    batch.Put(kModels, "a", "model a");
    batch.Put(kModels, "default", "model default");
    batch.Put(kDatasets, "d", "dataset d");
    for (uint16_t place = 0; place < 3; ++place) {
      RegistryResponse response;
      response.key.id = absl::StrCat("request-", place);
      response.sequence = place;
      response.model_id = absl::StrCat("m", place);
      batch.Put(kRequests, RegistryResponseKey(RegistryRequestKind::kCreate, 4, place),
                EncodeRegistryResponse(response));
    }
    RegistryResponse deletion;
    deletion.key.id = "deletion";
    batch.Put(kRequests, RegistryResponseKey(RegistryRequestKind::kDelete, 4, 1),
              EncodeRegistryResponse(deletion));
    batch.Put(kRequests, ResponseKey(77, 1), "a response of a model");
    batch.Put(kStates, UidKey(77), "a state");
    Commit(std::move(batch));
  }

  std::map<std::string, std::string> All(const store::Table& table) {
    std::map<std::string, std::string> all;
    EXPECT_TRUE(store
                    .Scan(table, "", "",
                          [&](absl::string_view key, absl::string_view value) {
                            all[std::string(key)] = std::string(value);
                            return true;
                          })
                    .ok());
    return all;
  }

  void ExpectFormat2() {
    std::map<std::string, std::string> models = {{"default/a", "model a"},
                                                 {"default/default", "model default"}};
    for (int i = 0; i < 7; ++i) models[absl::StrCat("default/m", i)] = absl::StrCat("model ", i);
    EXPECT_EQ(All(kModels), models);
    EXPECT_EQ(All(kDatasets), (std::map<std::string, std::string>{{"default/d", "dataset d"}}));
    const auto created = ReadRegistryResponses(&store, RegistryRequestKind::kCreate);
    ASSERT_TRUE(created.ok());
    ASSERT_EQ(created->size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ((*created)[i].key.id, absl::StrCat("request-", i));
      EXPECT_EQ((*created)[i].model_id, absl::StrCat("default/m", i));
    }
    const auto deleted = ReadRegistryResponses(&store, RegistryRequestKind::kDelete);
    ASSERT_TRUE(deleted.ok());
    EXPECT_EQ(deleted->size(), 1u);
    EXPECT_EQ(All(kRequests)[ResponseKey(77, 1)], "a response of a model");
    EXPECT_EQ(All(kStates), (std::map<std::string, std::string>{{UidKey(77), "a state"}}));
    EXPECT_EQ(All(store::kMeta), (std::map<std::string, std::string>{{store::kFormatKey, "2"}}));
  }

  store::MemoryStore store{size_t{1} << 30};
};

TEST_F(UpgradeTest, WhatFormat1StoredBelongsToTheDefaultProject) {
  FillWithFormat1();
  const auto changed = UpgradeStore(&store);
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(*changed, 9 + 1 + 3);
  ExpectFormat2();
  EXPECT_EQ(*UpgradeStore(&store), 0);
  ExpectFormat2();
}

// Wherever the process ends, the next start continues the upgrade, and an older server refuses the
// directory in between.
TEST_F(UpgradeTest, ContinuesWhereverItWasInterrupted) {
  constexpr size_t kRecordsAtOnce = 2;
  for (int commits = 0;; ++commits) {
    store::WriteBatch wipe;
    wipe.DeletePrefix(store::kMeta, "");
    for (const store::Table* table : kTables) wipe.DeletePrefix(*table, "");
    Commit(std::move(wipe));
    FillWithFormat1();
    StoreThatStops stopping(&store, commits);
    const auto stopped = UpgradeStore(&stopping, kRecordsAtOnce);
    const std::string format = All(store::kMeta)[store::kFormatKey];
    EXPECT_EQ(format, commits == 0 ? "1" : "2");
    ASSERT_TRUE(UpgradeStore(&store, kRecordsAtOnce).ok());
    ExpectFormat2();
    if (stopped.ok()) {
      EXPECT_GT(commits, 8);
      return;
    }
  }
}

TEST_F(UpgradeTest, DamagedRecordsAreLeftAsTheyAre) {
  const std::string key = RegistryResponseKey(RegistryRequestKind::kCreate, 4, 0);
  std::string same_key = key, value = "damaged";
  EXPECT_FALSE(UpgradeRecord(kRequests, &same_key, &value));
  EXPECT_EQ(same_key, key);
  EXPECT_EQ(value, "damaged");
}

TEST(ScopedIdTest, HasAProjectAndAnId) {
  EXPECT_EQ(ScopedId("acme", "x"), "acme/x");
  EXPECT_EQ(ProjectOf("acme/x"), "acme");
  EXPECT_EQ(IdOf("acme/x"), "x");
  EXPECT_EQ(IdOf("acme/"), "");
  EXPECT_EQ(ModelName("acme/x"), "models/x");
  EXPECT_EQ(DatasetName("acme/x"), "datasets/x");
}

}  // namespace
}  // namespace backprop::records
