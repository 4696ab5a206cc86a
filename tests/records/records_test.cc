// Every record is decoded to the values that were encoded.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <variant>

#include "absl/time/time.h"
#include "server/records/checkpoint_records.h"
#include "server/records/keys.h"
#include "server/records/project.h"
#include "server/records/response_records.h"
#include "server/records/run_records.h"

namespace backprop::records {
namespace {

constexpr absl::Time kTime = absl::FromUnixSeconds(1'700'000'000);

TEST(RecordsTest, ResponsesOfEveryKindRoundTrip) {
  StepOutcome step;
  step.step = 3;
  step.result.rows = 20;
  step.result.gradient_norm = 0.5;
  StoredResponse stored{{"r", 1}, kTime, 9, step};
  auto read = DecodeResponse(EncodeResponse(stored), "models/m");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->key.id, "r");
  EXPECT_EQ(read->key.fingerprint, 1u);
  EXPECT_EQ(read->time, kTime);
  EXPECT_EQ(read->sequence, 9u);
  EXPECT_EQ(std::get<StepOutcome>(read->response).step, 3);
  EXPECT_EQ(std::get<StepOutcome>(read->response).result.rows, 20);
  EXPECT_EQ(std::get<StepOutcome>(read->response).result.gradient_norm, 0.5);

  stored.response = int64_t{4};
  EXPECT_EQ(std::get<int64_t>(DecodeResponse(EncodeResponse(stored), "models/m")->response), 4);
  stored.response = RunNumber{5};
  EXPECT_EQ(
      std::get<RunNumber>(DecodeResponse(EncodeResponse(stored), "models/m")->response).number, 5);
  Checkpoint checkpoint;
  checkpoint.id = "c";
  checkpoint.step = 6;
  stored.response = std::make_shared<const Checkpoint>(checkpoint);
  read = DecodeResponse(EncodeResponse(stored), "models/m");
  EXPECT_EQ(std::get<CheckpointPtr>(read->response)->id, "c");
  EXPECT_EQ(std::get<CheckpointPtr>(read->response)->step, 6);
}

TEST(RecordsTest, ACheckpointRoundTrips) {
  Checkpoint checkpoint;
  checkpoint.id = "run-1-best";
  checkpoint.create_time = kTime;
  checkpoint.state_hash = HashOfState("state");
  checkpoint.run = 1;
  checkpoint.best = true;
  checkpoint.metrics = Metrics{0.25, 0.9, 200};
  const auto read = DecodeCheckpoint(EncodeCheckpoint(checkpoint), "models/m");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->id, checkpoint.id);
  EXPECT_EQ(read->create_time, kTime);
  EXPECT_EQ(read->state_hash.size(), 16u);
  EXPECT_EQ(read->state_hash, checkpoint.state_hash);
  EXPECT_TRUE(read->best);
  EXPECT_EQ(read->metrics->accuracy, 0.9);
  EXPECT_FALSE(read->validation.has_value());
}

// The summary is the last event of the stored log, and apart from the log in memory.
TEST(RecordsTest, AFinishedRunRoundTrips) {
  FinishedRun run;
  run.number = 2;
  run.config.iterations = 30;
  run.log.first = {RunStarted{30, 3, 200, 0, 0}, Progress{}};
  run.log.newest = {Progress{}};
  run.log.count = 3;
  run.summary.iterations = 30;
  run.summary.stop_reason = StopReason::kEarlyStopped;
  UnfinishedEpoch epoch;
  epoch.batches = 2;
  epoch.step = 30;
  epoch.plan.rows = 200;
  epoch.plan.batch_size = 64;
  run.unfinished = std::make_shared<UnfinishedEpoch>(epoch);
  const auto read = DecodeFinishedRun(EncodeFinishedRun(run), "models/m");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->number, 2);
  EXPECT_EQ(read->config.iterations, 30);
  EXPECT_EQ(read->log.count, 3);
  EXPECT_EQ(read->log.first.size(), 2u);
  ASSERT_EQ(read->log.newest.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Progress>(read->log.newest[0]));
  EXPECT_EQ(read->summary.iterations, 30);
  EXPECT_EQ(read->summary.stop_reason, StopReason::kEarlyStopped);
  EXPECT_EQ(read->unfinished->batches, 2);
  EXPECT_EQ(read->unfinished->plan, epoch.plan);
}

TEST(RecordsTest, IdsHaveOneForm) {
  for (const char* id : {"m", "0", "run-1-best", "a_b"}) EXPECT_TRUE(IsId(id)) << id;
  EXPECT_TRUE(IsId(std::string(63, 'a')));
  EXPECT_FALSE(IsId(std::string(64, 'a')));
  for (const char* id : {"", "-m", "M", "a/b", "a\n", "\xff"}) EXPECT_FALSE(IsId(id)) << id;
  EXPECT_TRUE(IsScopedId("default/m"));
  for (const char* id : {"", "m", "/m", "default/", "a/b/c"}) EXPECT_FALSE(IsScopedId(id)) << id;
}

// Keys of one model are adjacent and in the order of their numbers.
TEST(RecordsTest, KeysSortByNumber) {
  EXPECT_EQ(UidKey(0x0102030405060708), "\1\2\3\4\5\6\7\10");
  EXPECT_LT(LoggedStepKey(1, 255), LoggedStepKey(1, 256));
  EXPECT_LT(LoggedStepKey(1, 1 << 30), LoggedStepKey(2, 1));
  EXPECT_EQ(RunKey(1, RunPart::kMark), "m" + UidKey(1));
  EXPECT_NE(DrawUid(), 0u);
}

}  // namespace
}  // namespace backprop::records
