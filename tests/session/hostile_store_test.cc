// A store with records that are valid alone but not together, as a backup can bring it: a model or
// its run ends with an error, and the server and other models do not.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/records/checkpoint_records.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/records.pb.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/tables.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

class HostileStoreTest : public DurableFixture {
 protected:
  HostileStoreTest() {
    EXPECT_TRUE(Make("other").ok());
    const auto model = Make("m");
    EXPECT_TRUE(model.ok()) << model.status();
    uid_ = (*model)->uid();
  }

  // Changes the store as a restore of a backup does, before the server starts again.
  void RestartWith(store::WriteBatch batch) {
    server = nullptr;
    store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
    store::WaitForAnswers(&store);
    Restart();
    const auto other = Find("other");
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_TRUE(Step(other->get()).ok()) << "another model is intact";
  }

  // A run over 20 rows that resumes.
  static records::v1::Run ValidRun() {
    records::v1::Run run;
    run.set_number(1);
    run.set_resumes(true);
    run.set_training_chunks(1);
    run.set_model("m");
    run.mutable_config()->set_iterations(10);
    run.mutable_config()->set_batch_size(4);
    run.mutable_config()->set_report_every(1);
    return run;
  }
  store::WriteBatch BatchOf(const records::v1::Run& run) const {
    store::WriteBatch batch;
    batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kRun), records::Seal(run));
    batch.Put(records::kChunks, records::ChunkKey(uid_, 1, records::RowsOf::kTraining, 0),
              std::move(records::EncodeRows(*XorRows(20))[0].record));
    return batch;
  }

  // The end of the run after its record was changed.
  records::RunSummary EndOf(const std::function<void(records::v1::Run*)>& forge) {
    records::v1::Run run = ValidRun();
    forge(&run);
    RestartWith(BatchOf(run));
    const auto model = Find("m");
    EXPECT_TRUE(model.ok()) << model.status();
    const auto found = (*model)->FindRun(1);
    EXPECT_TRUE(found.ok()) << found.status();
    records::RunSummary summary = WaitFor(*found);
    EXPECT_TRUE(Step(model->get()).ok()) << "the model can still be used";
    return summary;
  }
  void ExpectLost(const std::function<void(records::v1::Run*)>& forge, const std::string& says) {
    SCOPED_TRACE(says);
    const records::RunSummary summary = EndOf(forge);
    EXPECT_EQ(summary.stop_reason, records::StopReason::kDataLost);
    EXPECT_EQ(summary.iterations, 0);
    EXPECT_NE(summary.message.find("models/m/runs/1"), std::string::npos) << summary.message;
    EXPECT_NE(summary.message.find(says), std::string::npos) << summary.message;
  }

  records::Uid uid_ = 0;
};

TEST_F(HostileStoreTest, ARunWhoseSettingsDoNotFitItsRowsEnds) {
  const records::RunSummary good = EndOf([](auto*) {});
  EXPECT_EQ(good.stop_reason, records::StopReason::kCompleted) << good.message;
  EXPECT_EQ(good.iterations, 10);
  ExpectLost([](auto* run) { run->mutable_config()->set_batch_size(21); },
             "config.batch_size: expected 1 to 20, got 21");
  ExpectLost([](auto* run) { run->mutable_config()->set_validation_split(0.99); },
             "config.validation_split: expected one that leaves rows for training, got 0.99");
  ExpectLost(
      [](auto* run) {
        auto* epoch = run->mutable_config()->mutable_resumed();
        epoch->set_rows(1000);
        epoch->set_batch_size(4);
        epoch->set_batches(5);
        epoch->set_step(5);
      },
      "config.resumed.batches: expected 1 to 4, got 5");
}

// The limit follows the memory of the machine, so a valid run can meet a lower one.
TEST_F(HostileStoreTest, ARunThatNeedsMoreMemoryThanNowAllowedIsKept) {
  const base::Limits ample = limits;
  limits.max_workspace_bytes = 1;
  RestartWith(BatchOf(ValidRun()));
  const auto model = Find("m");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto run = (*model)->FindRun(1);
  ASSERT_TRUE(run.ok()) << run.status();
  const absl::Status parked = (*run)->parked();
  EXPECT_EQ(parked.code(), absl::StatusCode::kResourceExhausted) << parked;
  EXPECT_NE(parked.message().find("models/m/runs/1: config.batch_size"), std::string::npos)
      << parked;
  EXPECT_NE(parked.message().find("max_workspace_bytes"), std::string::npos) << parked;
  limits = ample;
  Restart();
  const auto again = Find("m");
  ASSERT_TRUE(again.ok()) << again.status();
  const records::RunSummary summary = WaitFor(*(*again)->FindRun(1));
  EXPECT_EQ(summary.stop_reason, records::StopReason::kCompleted) << summary.message;
  EXPECT_EQ(summary.iterations, 10);
}

TEST_F(HostileStoreTest, AMarkAfterTheLastIterationIsDamage) {
  store::WriteBatch batch = BatchOf(ValidRun());
  records::v1::Mark mark;
  mark.set_phase(1);
  mark.set_iteration(11);  // a run ends after exactly 10
  batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kMark), records::Seal(mark));
  RestartWith(std::move(batch));
  const absl::Status status = Find("m").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("a mark's iteration: expected 0 to 10, got 11"),
            std::string::npos)
      << status;
}

// The best state belongs to early stopping, which this run does not have.
TEST_F(HostileStoreTest, ABestStateThatNobodyKeepsIsIgnored) {
  records::v1::Run run = ValidRun();
  run.mutable_config()->set_iterations(kForever);
  store::WriteBatch batch = BatchOf(run);
  records::v1::Mark mark;
  mark.set_phase(1);
  batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kMark), records::Seal(mark));
  const auto state = *store.Get(records::kStates, records::UidKey(uid_));
  ASSERT_TRUE(state.has_value());
  batch.Put(records::kRuns, records::RunKey(uid_, records::RunPart::kBest), *state);
  RestartWith(std::move(batch));
  EXPECT_TRUE(Find("m").ok());
  Restart();  // the run is marked when the server stops
  EXPECT_TRUE(Find("m").ok());
}

// The record of a response has a key that another kind of request has.
TEST_F(HostileStoreTest, ARetryOfAnotherKindOfRequestIsRefused) {
  records::StoredResponse response;
  response.key = {"r1", 1};
  response.time = clock.Now();
  response.response = records::RunNumber{1};
  store::WriteBatch batch;
  batch.Put(records::kRequests, records::ResponseKey(uid_, 0), records::EncodeResponse(response));
  RestartWith(std::move(batch));
  const auto model = Find("m");
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::Status status = Step(model->get(), {"r1", 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(base::FieldViolationsOf(status)[0].field, "request_id");
  EXPECT_TRUE(Step(model->get(), {"r2", 1}).ok());
}

TEST_F(HostileStoreTest, AModelWithAnotherNumberOfValuesIsDamaged) {
  auto model = *records::DecodeModel(**store.Get(records::kModels, "m"), "m");
  model.value_count += 1;
  store::WriteBatch batch;
  batch.Put(records::kModels, "m", records::EncodeModel(model));
  RestartWith(std::move(batch));
  const absl::Status status = Find("m").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find(absl::StrCat("numbers: expected ", model.value_count - 1,
                                               ", got ", model.value_count)),
            std::string::npos)
      << status;
  EXPECT_TRUE(DeleteModel("m").ok());
}

TEST_F(HostileStoreTest, CheckpointsHaveTheIdInTheirKeyAndAreFew) {
  records::Checkpoint checkpoint;
  checkpoint.state_hash = std::string(16, 'h');
  const auto load = [&](int count, const std::string& first_id) {
    store::WriteBatch batch;
    for (int i = 0; i < count; ++i) {
      const std::string id = absl::StrCat("c", i);
      checkpoint.id = i == 0 ? first_id : id;
      batch.Put(records::kCheckpoints, records::CheckpointKey(uid_, id),
                records::EncodeCheckpoint(checkpoint));
    }
    store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
    store::WaitForAnswers(&store);
    return Checkpoints::Load(&store, uid_, "models/m").status();
  };
  EXPECT_TRUE(load(10, "c0").ok());
  const absl::Status other_id = load(1, "x");
  EXPECT_EQ(other_id.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(other_id.message().find("a checkpoint's id: expected the one in its key, got \"x\""),
            std::string::npos)
      << other_id;
  const absl::Status many = load(2000, "c0");
  EXPECT_EQ(many.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(many.message().find("number of checkpoints: expected 1 to 1200, got 1201"),
            std::string::npos)
      << many;
}

}  // namespace
}  // namespace backprop::session
