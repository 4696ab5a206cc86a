// What is counted as stored equals what the store holds: after each change, after a restart, and
// for changes that are made while stored records are counted.
#include "server/session/metered_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/records/dataset_info.h"
#include "server/records/model_records.h"
#include "server/records/project.h"
#include "server/records/tables.h"
#include "tests/notification.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

// A store whose snapshots cannot be read before Release().
class LateSnapshots final : public store::Store {
 public:
  explicit LateSnapshots(store::Store* kept) : kept_(kept) {}
  void Release() { released_.Notify(); }

  void Commit(store::WriteBatch batch, store::Durability durability,
              std::shared_ptr<store::Chain> chain, Done done) override {
    kept_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
  }
  absl::StatusOr<std::optional<std::string>> Get(const store::Table& table,
                                                 absl::string_view key) override {
    return kept_->Get(table, key);
  }
  absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    return kept_->Scan(table, first, end, visit);
  }
  absl::StatusOr<std::unique_ptr<store::Snapshot>> TakeSnapshot() override {
    auto snapshot = kept_->TakeSnapshot();
    if (!snapshot.ok()) return snapshot;
    return std::make_unique<Late>(*std::move(snapshot), &released_);
  }
  absl::Status health() const override { return kept_->health(); }

 private:
  class Late final : public store::Snapshot {
   public:
    Late(std::unique_ptr<store::Snapshot> snapshot, Notification* released)
        : snapshot_(std::move(snapshot)), released_(released) {}
    absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                      Visitor visit) override {
      released_->WaitForNotification();
      return snapshot_->Scan(table, first, end, visit);
    }

   private:
    const std::unique_ptr<store::Snapshot> snapshot_;
    Notification* const released_;
  };

  store::Store* const kept_;
  Notification released_;
};

class MeteredStoreTest : public DurableFixture {
 protected:
  MeteredStoreTest() { Start(/*late=*/false); }
  ~MeteredStoreTest() override { Stop(); }

  void Stop() {
    if (late_ != nullptr && !complete()) late_->Release();
    server.reset();
    metered_.reset();
    late_.reset();
  }
  // `late`: stored records are counted only after Release().
  void Start(bool late) {
    Stop();
    projects_ = std::make_unique<Projects>(nullptr);
    late_ = std::make_unique<LateSnapshots>(&store);
    metered_ = std::make_unique<MeteredStore>(late_.get(), projects_.get(),
                                              [](const std::string& line) { FAIL() << line; });
    ASSERT_TRUE(metered_->Open().ok());
    if (!late) Release();
    server = std::make_unique<Server>(metered_.get(), &clock, limits);
  }
  void Release() {
    late_->Release();
    while (!complete()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  bool complete() const { return metered_->complete(); }

  int64_t Used(const std::string& project) {
    store::WaitForAnswers(metered_.get());
    return projects_->Of(project)->used(Resource::kStoredBytes);
  }
  int64_t Used() {
    store::WaitForAnswers(metered_.get());
    int64_t used = 0;
    for (Project* project : projects_->All()) used += project->used(Resource::kStoredBytes);
    return used;
  }
  // Reads the whole store.
  int64_t Held() {
    store::WaitForAnswers(metered_.get());
    int64_t bytes = 0;
    for (const store::Table* table : records::kTables) {
      const absl::Status scanned =
          store.Scan(*table, "", "", [&](absl::string_view key, absl::string_view value) {
            bytes += HeldBy(*table, key, value);
            return true;
          });
      EXPECT_TRUE(scanned.ok()) << scanned;
    }
    return bytes;
  }
  static int64_t HeldBy(const store::Table& table, absl::string_view key, absl::string_view value) {
    const auto bytes = static_cast<int64_t>(key.size() + value.size());
    if (table.number == records::kStates.number || table.number == records::kDatasetRows.number) {
      return 0;  // the descriptions count them
    }
    if (table.number == records::kModels.number) {
      return bytes + records::DecodeModel(value, key)->value_bytes;
    }
    if (table.number == records::kDatasets.number) {
      return bytes + records::DecodeDataset(value, key)->size_bytes;
    }
    const bool of_server = table.number == records::kRequests.number &&
                           key.substr(0, sizeof(records::Uid)) == records::UidKey(0);
    return of_server ? 0 : bytes;
  }

  static void Keep(Session* session, const std::string& id) {
    Waiter<records::CheckpointPtr> waiter;
    session->CreateCheckpoint({id, {absl::StrCat("keep ", id), 1}, Never()}, waiter.callback());
    ASSERT_TRUE(waiter.Wait().ok());
  }
  static void Drop(Session* session, const std::string& id) {
    Waiter<int64_t> waiter;
    session->DeleteCheckpoint({id, {}, Never()}, waiter.callback());
    ASSERT_TRUE(waiter.Wait().ok());
  }
  void Steps(Session* session, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(Step(session, {absl::StrCat("step ", ++steps_), 7}).ok());
    }
  }

  int steps_ = 0;
  std::unique_ptr<Projects> projects_;
  std::unique_ptr<LateSnapshots> late_;
  std::unique_ptr<MeteredStore> metered_;
};

TEST_F(MeteredStoreTest, EachChangeIsCountedAndARestartCountsTheSame) {
  EXPECT_EQ(Used(), 0);
  auto model = *Make("large", {"create", 1});
  EXPECT_GT(Used("large"), model->StateBytes());
  EXPECT_EQ(Used(), Held());
  Steps(model.get(), 70);  // they are logged; the ring of responses is full
  EXPECT_EQ(Used(), Held());
  Steps(model.get(), 230);  // a state replaces the logged steps
  EXPECT_EQ(Used(), Held());
  Keep(model.get(), "a");
  Keep(model.get(), "b");  // of the same state, which is stored once
  Steps(model.get(), 3);
  Keep(model.get(), "c");
  EXPECT_EQ(Used(), Held());
  Drop(model.get(), "a");
  Drop(model.get(), "c");
  EXPECT_EQ(Used(), Held());
  const int64_t before = Used();
  EXPECT_GT(before, 2 * model->StateBytes());
  model = nullptr;
  Start(/*late=*/false);
  EXPECT_EQ(Used(), before);
  EXPECT_EQ(Used(), Held());
  model = *Find("large");
  Steps(model.get(), 5);
  EXPECT_EQ(Used(), Held());
  model = nullptr;
  ASSERT_TRUE(DeleteModel("large").ok());
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Held(), 0);
}

TEST_F(MeteredStoreTest, ARunCountsItsRowsWhileItIsActive) {
  const auto model = *Make("large");
  auto args = TrainArgsFor(20);
  args.resumes = true;
  Waiter<RunPtr> waiter;
  model->Train(std::move(args), waiter.callback());
  const RunPtr run = *waiter.Wait();
  Notification ended;
  run->OnFinish([&](const auto&) { ended.Notify(); });
  ended.WaitForNotification();
  EXPECT_EQ(Held(), Used());
  EXPECT_EQ(RecordsIn(&store, {&records::kChunks}), 0U);
}

TEST_F(MeteredStoreTest, ChangesWhileStoredRecordsAreCountedAreCountedOnce) {
  for (const char* const id : {"large", "kept", "deleted"}) {
    const auto model = *Make(id);
    Steps(model.get(), 10);
    Keep(model.get(), "a");
    Keep(model.get(), "b");
    Steps(model.get(), 10);
    Keep(model.get(), "c");
  }
  Start(/*late=*/true);
  EXPECT_LT(Used(), Held());
  auto model = *Find("large");
  Steps(model.get(),
        300);  // also a state, which replaces the logged steps that are not counted yet
  Drop(model.get(), "a");
  Drop(model.get(), "b");
  Keep(model.get(), "a");
  ASSERT_TRUE(DeleteModel("deleted").ok());
  ASSERT_TRUE(Make("new").ok());
  Release();
  EXPECT_EQ(Used(), Held());
  EXPECT_EQ(Used("deleted"), 0);
  Steps(model.get(), 40);
  Drop(model.get(), "c");
  EXPECT_EQ(Used(), Held());
}

TEST_F(MeteredStoreTest, ProjectsAndDatasetsAreCountedApart) {
  records::DatasetInfo info;
  info.id = "alpha/d";
  info.uid = 77;
  const auto put = [&](int64_t rows) {
    info.size_bytes = 100 * rows;
    store::WriteBatch batch;
    batch.Put(records::kDatasetRows, records::DatasetRowsKey(info.uid, rows), "rows");
    batch.Put(records::kDatasets, info.id, records::EncodeDataset(info));
    metered_->Commit(std::move(batch), store::Durability::kSync, nullptr,
                     [](const absl::Status&) {});
  };
  put(1);
  put(20);
  ASSERT_TRUE(Make("beta/m").ok());
  EXPECT_EQ(Used(), Held());
  EXPECT_GT(Used("alpha"), 2000);
  EXPECT_LT(Used("alpha"), 2200);
  const int64_t beta = Used("beta");
  EXPECT_GT(beta, 0);
  store::WriteBatch deletion;
  deletion.Delete(records::kDatasets, info.id);
  deletion.DeletePrefix(records::kDatasetRows, records::UidKey(info.uid));
  metered_->Commit(std::move(deletion), store::Durability::kSync, nullptr,
                   [](const absl::Status&) {});
  EXPECT_EQ(Held(), Used());
  EXPECT_EQ(Used("alpha"), 0);
  EXPECT_EQ(Used("beta"), beta);
}

// Keys without a uid, or with that of no model, as a backup can bring them.
TEST_F(MeteredStoreTest, CountsAfterKeysOfNoModel) {
  Keep(Make("m")->get(), "c");
  const int64_t used = Used();
  Stop();
  store::WriteBatch batch;
  for (const std::string& key : {std::string("a"), std::string(8, '\0') + "i", std::string("b")}) {
    batch.Put(records::kCheckpoints, key, "forged");
  }
  store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  store::WaitForAnswers(&store);
  Start(/*late=*/false);  // waits until all is counted
  EXPECT_EQ(Used(), used);
}

TEST_F(MeteredStoreTest, ARejectedChangeIsNotCounted) {
  const auto chain = std::make_shared<store::Chain>();
  chain->Break();
  store::WriteBatch batch;
  records::StoredModel model;
  model.uid = 5;
  batch.Put(records::kModels, "alpha/m", records::EncodeModel(model));
  metered_->Commit(std::move(batch), store::Durability::kSync, chain,
                   [](const absl::Status& status) { EXPECT_FALSE(status.ok()); });
  EXPECT_EQ(Held(), 0);
  EXPECT_EQ(Used(), 0);
}

}  // namespace
}  // namespace backprop::session
