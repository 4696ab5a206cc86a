// Datasets: uploads, their users, and their rows on disk and in memory.
#include "server/datasets/datasets.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/datasets/contents.h"
#include "server/datasets/reader.h"
#include "server/records/row_records.h"
#include "server/records/tables.h"
#include "tests/session/durable_fixture.h"

namespace backprop::datasets {
namespace {

using session::RowsInUse;
using session::Session;
using session::Waiter;

class DatasetsTest : public session::DurableFixture {
 protected:
  Datasets& all() { return server->datasets; }

  absl::StatusOr<records::DatasetInfo> Append(records::Uid uid, int64_t first_row,
                                              engine::Dataset rows) {
    Datasets::AppendArgs args;
    args.uid = uid;
    args.first_row = first_row;
    args.rows = std::move(rows);
    args.check = [](const records::DatasetInfo&, engine::Dataset* checked,
                    std::vector<std::string>*) {
      if (checked->inputs.Get(0) == 666) return base::FieldError("chunk", "is bad");
      return absl::OkStatus();
    };
    Waiter<records::DatasetInfo> waiter;
    all().Append(std::move(args), waiter.callback());
    return waiter.Wait();
  }
  absl::StatusOr<records::DatasetInfo> Complete(records::Uid uid, int64_t rows) {
    Waiter<records::DatasetInfo> waiter;
    all().Complete(uid, rows, waiter.callback());
    return waiter.Wait();
  }
  absl::Status Drop(const std::string& id, records::RequestKey key = {}) {
    Waiter<int> waiter;
    all().Delete(id, key, [done = waiter.callback()](const absl::Status& status) mutable {
      if (status.ok()) return done(1);
      done(status);
    });
    return waiter.Wait().status();
  }
  // The rows of XorRows(), in chunks of `at_once`.
  records::DatasetInfo Upload(const std::string& id, int64_t at_once = 64) {
    const auto rows = XorRows();
    const auto info = *all().BeginUpload({id, "upload", engine::DataType::kFloat32, {}});
    for (int64_t first = 0; first < rows->rows; first += at_once) {
      EXPECT_TRUE(Append(info.uid, first, Part(*rows, first, at_once)).ok());
    }
    return *Complete(info.uid, rows->rows);
  }
  static engine::Dataset Part(const engine::Dataset& rows, int64_t first, int64_t count) {
    std::vector<int32_t> order;
    for (int64_t row = first; row < std::min(first + count, rows.rows); ++row) {
      order.push_back(static_cast<int32_t>(row));
    }
    auto part = engine::EmptyLike(rows, static_cast<int64_t>(order.size()));
    engine::Gather(rows, order, &part);
    return part;
  }
  absl::StatusOr<RowsInUse> Use(const std::string& id, const Session& model) {
    Waiter<RowsInUse> waiter;
    all().Use(id, model.info(), model.network(), "dataset", waiter.callback());
    return waiter.Wait();
  }
  size_t Records() { return RecordsIn(&store, {&records::kDatasets, &records::kDatasetRows}); }
  static Session::TrainArgs Run(RowsInUse rows, int64_t iterations, bool resumes = false) {
    auto args = TrainArgsFor(iterations);
    args.data = std::move(rows);
    args.config.batch_size = 30;
    args.config.shuffle = true;
    args.config.validation_split = 0.2;
    args.resumes = resumes;
    return args;
  }
};

TEST_F(DatasetsTest, AnUploadGoesOnAfterARestartAndIsThereOnce) {
  const auto rows = XorRows();
  const records::NewDataset upload{"d", "r", engine::DataType::kFloat32, {}, {"x", "y"}};
  const auto begun = *all().BeginUpload(upload);
  ASSERT_TRUE(Append(begun.uid, 0, Part(*rows, 0, 70)).ok());
  EXPECT_EQ(base::ReasonOf(Append(begun.uid, 71, Part(*rows, 71, 1)).status())->reason,
            "ROWS_MISSING");
  Restart();
  const auto again = *all().BeginUpload(upload);
  EXPECT_EQ(again.uid, begun.uid);
  EXPECT_EQ(again.feature_names, upload.feature_names);
  EXPECT_EQ(again.rows, 70);
  // From the beginning: rows that the server has are skipped.
  EXPECT_EQ(Append(again.uid, 0, Part(*rows, 0, 50))->rows, 70);
  EXPECT_EQ(Append(again.uid, 50, Part(*rows, 50, 50))->rows, 100);
  EXPECT_EQ(base::ReasonOf(Complete(again.uid, 200).status())->reason, "ROWS_MISSING");
  EXPECT_EQ(Complete(again.uid, 99).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Append(again.uid, 100, Part(*rows, 100, 100))->rows, 200);
  const auto model = *Make("m");
  EXPECT_EQ(base::ReasonOf(Use("d", *model).status())->reason, "DATASET_UPLOADING");
  EXPECT_TRUE(Complete(again.uid, 200)->ready);
  EXPECT_TRUE(Complete(again.uid, 200)->ready);  // a retry
  const auto used = Use("d", *model);
  ASSERT_TRUE(used.ok()) << used.status();
  EXPECT_EQ(engine::ToDoubles(used->rows->inputs, 0, 400), engine::ToDoubles(rows->inputs, 0, 400));
  EXPECT_EQ(used->rows->classes, rows->classes);
  EXPECT_EQ(all().BeginUpload({"d", "other", engine::DataType::kFloat32, {}}).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(DatasetsTest, NothingOfABrokenOrLeftUploadRemains) {
  const auto rows = XorRows();
  const auto bad = *all().BeginUpload({"bad", "r", engine::DataType::kFloat32, {}});
  ASSERT_TRUE(Append(bad.uid, 0, Part(*rows, 0, 70)).ok());
  auto broken = Part(*rows, 70, 10);
  broken.inputs.Set(0, 666);
  EXPECT_EQ(Append(bad.uid, 70, std::move(broken)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Records(), 0u);
  EXPECT_EQ(all().Get("bad").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Append(bad.uid, 70, Part(*rows, 70, 10)).status().code(), absl::StatusCode::kNotFound);

  const auto left = *all().BeginUpload({"left", "r", engine::DataType::kFloat32, {}});
  ASSERT_TRUE(Append(left.uid, 0, Part(*rows, 0, 70)).ok());
  Restart();
  clock.Advance(base::kUploadAge - absl::Seconds(1));
  EXPECT_EQ(all().ExpireUploads(), 0);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(all().ExpireUploads(), 1);
  store::WaitForAnswers(&held);
  EXPECT_EQ(Records(), 0u);
}

TEST_F(DatasetsTest, ARunIsTheSameAsWithItsRowsInTheRequest) {
  Upload("d");
  auto session = *Make("m");
  auto inline_session = *Make("inline");
  const records::RunSummary a = WaitFor(Start(session.get(), Run(*Use("d", *session), 100)));
  const records::RunSummary b = WaitFor(Start(inline_session.get(), Run({XorRows(), 0}, 100)));
  EXPECT_EQ(a.metrics->loss, b.metrics->loss);
  EXPECT_EQ(a.validation->loss, b.validation->loss);
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(inline_session.get())));
}

// This includes a run recorded in the store by a server that no longer exists.
TEST_F(DatasetsTest, CannotBeDeletedUnderARun) {
  Upload("d");
  auto session = *Make("m");
  auto run = Start(session.get(), Run(*Use("d", *session), kForever, /*resumes=*/true));
  const auto refused = Drop("d");
  EXPECT_EQ(base::ReasonOf(refused)->reason, "DATASET_IN_USE");
  EXPECT_EQ(base::ReasonOf(refused)->metadata.at("user"), "models/m");
  // Not in memory, but in the store.
  Datasets others(&server->environment, "");
  ASSERT_TRUE(others.Open().ok());
  Waiter<int> waiter;
  others.Delete("d", {},
                [done = waiter.callback()](const absl::Status& status) mutable { done(status); });
  EXPECT_EQ(base::ReasonOf(waiter.Wait().status())->metadata.at("user"), "models/m/runs/1");
  session = nullptr;
  run = nullptr;
  Restart();
  EXPECT_EQ(base::ReasonOf(Drop("d"))->reason, "DATASET_IN_USE");
  session = *Find("m");
  run = *session->FindRun(0);
  run->RequestStop(records::StopReason::kStopped);
  WaitFor(run);
  EXPECT_TRUE(Drop("d").ok());
  EXPECT_EQ(Records(), 0u);
}

// The dataset exists until it is deleted; only new users of it have to wait.
TEST_F(DatasetsTest, WhileItIsFoundOutWhetherItCanBeDeleted) {
  Upload("d");
  const auto model = *Make("m");
  const records::Uid uid = all().Get("d")->uid;
  held.Hold();
  Waiter<int> deleted;
  all().Delete("d", {}, [done = deleted.callback()](const absl::Status& status) mutable {
    if (status.ok()) return done(1);
    done(status);
  });
  const auto refused = Use("d", *model);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(refused.status())->reason, "DATASET_BEING_DELETED");
  EXPECT_TRUE(all().Get("d").ok());
  Waiter<RowsInUse> goes_on;
  all().UseAgain(uid, model->info(), model->network(), goes_on.callback());
  EXPECT_TRUE(goes_on.Wait().ok()) << goes_on.Wait().status();
  held.Release(absl::OkStatus());
  EXPECT_TRUE(deleted.Wait().ok()) << deleted.Wait().status();
  EXPECT_EQ(all().Get("d").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Use("d", *model).status().code(), absl::StatusCode::kNotFound);
}

// A call that is active when the server starts to stop may request this only afterwards.
TEST_F(DatasetsTest, WhoAsksForRowsAfterTheEndOfReadingIsTold) {
  Upload("d");
  const auto model = *Make("m");
  all().Stop();
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(Use("d", *model).status().code(), absl::StatusCode::kUnavailable);
  }
}

TEST_F(DatasetsTest, ARunGoesOnWithItsDataset) {
  limits.mark_interval = absl::ZeroDuration();
  Restart();
  Upload("d");
  auto steady = *Make("steady");
  WaitFor(Start(steady.get(), Run(*Use("d", *steady), 30'000, true)));
  auto cut = *Make("cut");
  auto run = Start(cut.get(), Run(*Use("d", *cut), 30'000, true));
  for (int i = 0; i < 4; ++i) {
    cut = nullptr;
    run = nullptr;
    Restart();
    cut = *Find("cut");
  }
  run = *cut->FindRun(0);
  EXPECT_EQ(WaitFor(run).stop_reason, records::StopReason::kCompleted);
  EXPECT_EQ(Values(*Read(cut.get())), Values(*Read(Find("steady")->get())));
}

TEST_F(DatasetsTest, ARunWhoseRowsAreDamagedEnds) {
  const auto info = Upload("d");
  auto session = *Make("m");
  auto run = Start(session.get(), Run(*Use("d", *session), kForever, true));
  session = nullptr;
  run = nullptr;
  server.reset();
  const std::string key = records::DatasetRowsKey(info.uid, 64);
  std::string value = **store.Get(records::kDatasetRows, key);
  value[value.size() / 2] = static_cast<char>(value[value.size() / 2] ^ 1);
  store::WriteBatch batch;
  batch.Put(records::kDatasetRows, key, value);
  store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  store::WaitForAnswers(&store);
  Restart();
  session = *Find("m");
  const records::RunSummary summary = WaitFor(*session->FindRun(0));
  EXPECT_EQ(summary.stop_reason, records::StopReason::kDataLost);
  EXPECT_NE(summary.message.find("datasets/d"), std::string::npos) << summary.message;
  EXPECT_TRUE(Step(session.get()).ok());
  EXPECT_EQ(Use("d", *session).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Drop("d").ok());
}

TEST_F(DatasetsTest, ADeletionsRetryIsAnsweredAlsoAfterARestart) {
  Upload("d");
  ASSERT_TRUE(Drop("d", {"k", 1}).ok());
  EXPECT_TRUE(Drop("d", {"k", 1}).ok());
  Restart();
  EXPECT_TRUE(Drop("d", {"k", 1}).ok());
  EXPECT_EQ(Drop("d", {"other", 1}).code(), absl::StatusCode::kNotFound);
}

TEST_F(DatasetsTest, ARetryDuringADeletionGetsItsResult) {
  Upload("d");
  held.Hold();
  Waiter<int> first, retry, other;
  const auto begin = [&](Waiter<int>* waiter, const records::RequestKey& key) {
    all().Delete("d", key, [done = waiter->callback()](const absl::Status& status) mutable {
      if (status.ok()) return done(1);
      done(status);
    });
  };
  begin(&first, {"k", 1});
  begin(&retry, {"k", 1});
  begin(&other, {"other", 1});
  EXPECT_FALSE(first.done());
  EXPECT_FALSE(retry.done());
  held.Release(absl::OkStatus());
  EXPECT_TRUE(first.Wait().ok()) << first.Wait().status();
  EXPECT_TRUE(retry.Wait().ok()) << retry.Wait().status();
  EXPECT_EQ(other.Wait().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Records(), 0u);
}

// The store accepts the empty batch with which the retry waits.
TEST_F(DatasetsTest, ARetryThatWaitsForADeletionFailsIfTheStoreRejectsIt) {
  Upload("d");
  held.HoldNextWrite();
  Waiter<int> first, retry;
  for (Waiter<int>* waiter : {&first, &retry}) {
    const size_t before = held.waiting();
    all().Delete("d", {"k", 1}, [done = waiter->callback()](const absl::Status& status) mutable {
      if (status.ok()) return done(1);
      done(status);
    });
    while (held.waiting() == before) std::this_thread::yield();
  }
  held.Release(absl::ResourceExhaustedError("the disk is full"));
  EXPECT_EQ(first.Wait().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(retry.Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(all().Get("d").ok());
  EXPECT_TRUE(Drop("d", {"k", 1}).ok());
  EXPECT_EQ(Records(), 0u);
}

TEST_F(DatasetsTest, WhatTheStoreRefusedIsAsTheStoreHasIt) {
  const auto rows = XorRows();
  const auto info = *all().BeginUpload({"d", "r", engine::DataType::kFloat32, {}});
  ASSERT_TRUE(Append(info.uid, 0, Part(*rows, 0, 50)).ok());
  held.Hold();
  Datasets::AppendArgs args;
  args.uid = info.uid;
  args.first_row = 50;
  args.rows = Part(*rows, 50, 50);
  args.check = [](const auto&, auto*, auto*) { return absl::OkStatus(); };
  Waiter<records::DatasetInfo> waiter;
  all().Append(std::move(args), waiter.callback());
  held.Release(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(waiter.Wait().status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(all().List("", "", 10).size(), 1u);
  EXPECT_EQ(all().List("", "", 10).front().rows, 50);
  EXPECT_EQ(all().Get("d")->rows, 50);
  EXPECT_EQ(Append(info.uid, 50, Part(*rows, 50, 150))->rows, 200);
}

// Larger than the limit for reading into memory, in another precision, with class names.
TEST_F(DatasetsTest, LargeOnesAreMapped) {
  const int64_t count = kMostHeapBytes / (2 * 8) + 10;
  auto rows = engine::XorData(count, 1, engine::DataType::kFloat32);
  auto info = *all().BeginUpload({"large", "r", engine::DataType::kFloat32, {}});
  ASSERT_TRUE(Append(info.uid, 0, Part(rows, 0, count)).ok());
  info = *Complete(info.uid, count);
  ReadArgs args{&store, testing::TempDir(), engine::DataType::kFloat64, {1, 0}, nullptr};
  const auto read = ReadDataset(info, args);
  ASSERT_TRUE(read.ok()) << read.status();
  for (int64_t row : {int64_t{0}, count / 2, count - 1}) {
    EXPECT_EQ((*read)->inputs.Get(2 * row + 1), rows.inputs.Get(2 * row + 1));
    EXPECT_EQ((*read)->classes[static_cast<size_t>(row)],
              1 - rows.classes[static_cast<size_t>(row)]);
  }
  args.scratch_dir = "/nonexistent";
  EXPECT_EQ(ReadDataset(info, args).status().code(), absl::StatusCode::kUnavailable);
  std::atomic<bool> stop{true};
  args.stop = &stop;
  args.scratch_dir = "";
  EXPECT_EQ(ReadDataset(info, args).status().code(), absl::StatusCode::kUnavailable);
}

// A description with a right checksum that does not say what the store has, as a backup can bring
// it.
class ForgedDatasetTest : public DatasetsTest {
 protected:
  // What a use of dataset d says after its description was changed.
  absl::Status UseOf(const std::function<void(records::DatasetInfo*)>& forge) {
    records::DatasetInfo info = uploaded_;
    forge(&info);
    store::WriteBatch batch;
    batch.Put(records::kDatasets, info.id, records::EncodeDataset(info));
    store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
    store::WaitForAnswers(&store);
    Restart();
    const auto model = Find("m");
    EXPECT_TRUE(model.ok()) << "other things are intact";
    return Use("d", **model).status();
  }
  static void ExpectDamaged(const absl::Status& status, const std::string& says) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_NE(status.message().find("datasets/d"), std::string::npos) << status;
    EXPECT_NE(status.message().find(says), std::string::npos) << status;
  }
  void SetUp() override {
    ASSERT_TRUE(Make("m").ok());
    uploaded_ = Upload("d");
    ASSERT_TRUE(UseOf([](auto*) {}).ok());
  }

  records::DatasetInfo uploaded_;
};

// Nothing is allocated for rows that the store does not have: here 16 GiB.
TEST_F(ForgedDatasetTest, MoreRowsThanStored) {
  ExpectDamaged(UseOf([](auto* info) { info->rows = base::kMaxDatasetRows; }),
                "bytes of its rows: expected at least 17179869176, got ");
  ExpectDamaged(UseOf([](auto* info) { info->rows = 201; }), "row 200 is missing");
}

TEST_F(ForgedDatasetTest, FewerRowsThanStored) {
  ExpectDamaged(UseOf([](auto* info) { info->rows = 150; }),
                "its rows do not match its description");
}

// Models are chosen by the largest class.
TEST_F(ForgedDatasetTest, ClassesBeyondThoseOfTheDescription) {
  ExpectDamaged(UseOf([](auto* info) { info->largest_class = 0; }),
                "largest class of its rows: expected 0 to 0, got 1");
}

TEST_F(ForgedDatasetTest, TargetsBeyondThoseOfTheDescription) {
  records::DatasetInfo info;
  info.id = "t";
  info.uid = 7;
  engine::Dataset rows;
  rows.rows = 2;
  rows.inputs_per_row = info.inputs_per_row = 1;
  rows.targets_per_row = info.targets_per_row = 1;
  rows.inputs = engine::Buffer(engine::DataType::kFloat32, 2);
  rows.targets = engine::Buffer(engine::DataType::kFloat32, 2);
  rows.targets.Set(1, 5);
  AddRows(rows, &info);
  store::WriteBatch batch;
  batch.Put(records::kDatasetRows, records::DatasetRowsKey(7, 0),
            std::move(records::EncodeRows(rows)[0].record));
  store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  store::WaitForAnswers(&store);
  const auto read = [&](const std::function<void(records::DatasetInfo*)>& forge) {
    records::DatasetInfo forged = info;
    forge(&forged);
    ReadArgs args;
    args.store = &store;
    return ReadDataset(forged, args).status();
  };
  const auto expect_says = [](const absl::Status& status, const std::string& says) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_NE(status.message().find(says), std::string::npos) << status;
  };
  EXPECT_TRUE(read([](auto*) {}).ok());
  expect_says(read([](auto* forged) { forged->largest_target = 1; }),
              "largest target of its rows: expected at most 1, got 5");
  expect_says(read([](auto* forged) { forged->least_target = 1; }),
              "least target of its rows: expected at least 1, got 0");
  expect_says(read([](auto* forged) { forged->row_sum_error = 0; }),
              "difference of the sum of a row's targets from 1: expected at most 0, got 4");
}

TEST_F(DatasetsTest, WhetherRowsFitAModelIsKnownWithoutReadingThem) {
  const auto network = XorNetwork();
  records::ModelInfo model;
  model.class_names = {"no", "yes"};
  records::DatasetInfo info;
  info.id = "d";
  info.inputs_per_row = 2;
  info.largest_class = 1;
  EXPECT_TRUE(FitClasses(info, *network, model, "dataset").ok());
  info.largest_class = 2;
  EXPECT_EQ(base::FieldViolationsOf(FitClasses(info, *network, model, "dataset").status())[0].field,
            "dataset");
  info.class_names = {"yes", "no"};
  EXPECT_EQ(*FitClasses(info, *network, model, "dataset"), (std::vector<int32_t>{1, 0}));
  info.class_names = {"yes", "maybe"};
  EXPECT_FALSE(FitClasses(info, *network, model, "dataset").ok());
  info.class_names = {};
  info.largest_class = 0;
  info.inputs_per_row = 3;
  EXPECT_FALSE(FitClasses(info, *network, model, "dataset").ok());
  info.inputs_per_row = 2;
  info.targets_per_row = 2;
  info.least_target = 0;
  info.largest_target = 1;
  EXPECT_TRUE(FitClasses(info, *network, model, "dataset").ok());
  info.row_sum_error = 0.002;
  EXPECT_FALSE(FitClasses(info, *network, model, "dataset").ok());
  info.row_sum_error = 0;
  info.largest_target = 1.001;
  EXPECT_FALSE(FitClasses(info, *network, model, "dataset").ok());
  info.largest_target = 1;
  info.targets_per_row = 1;
  EXPECT_FALSE(FitClasses(info, *network, model, "dataset").ok());
}

}  // namespace
}  // namespace backprop::datasets
