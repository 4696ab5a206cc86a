// Checkpoints, in memory and on a store.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

class CheckpointTest : public DurableFixture {
 protected:
  static absl::StatusOr<records::CheckpointPtr> Keep(Session* session, const std::string& id,
                                                     records::RequestKey key = {}) {
    Waiter<records::CheckpointPtr> waiter;
    session->CreateCheckpoint({id, key, Never()}, waiter.callback());
    return waiter.Wait();
  }
  static absl::StatusOr<int64_t> Restore(Session* session, const std::string& id,
                                         std::optional<int64_t> expected = {},
                                         records::RequestKey key = {}) {
    Waiter<int64_t> waiter;
    session->RestoreCheckpoint({id, key, Never()}, expected, waiter.callback());
    return waiter.Wait();
  }
  static absl::Status Drop(Session* session, const std::string& id, records::RequestKey key = {}) {
    Waiter<int64_t> waiter;
    session->DeleteCheckpoint({id, key, Never()}, waiter.callback());
    return waiter.Wait().status();
  }
  static std::vector<std::string> Ids(Session* session) {
    std::vector<std::string> ids;
    for (const auto& checkpoint : session->ListCheckpoints("", 1000)) ids.push_back(checkpoint->id);
    return ids;
  }
  static size_t Records(store::Store* in) { return RecordsIn(in, {&records::kCheckpoints}); }
  // How far the active run of a model is stored; 0: it is not, or there is none.
  int64_t StoredIteration(records::Uid uid) {
    const auto record = *store.Get(records::kRuns, records::RunKey(uid, records::RunPart::kMark));
    return record.has_value() ? records::DecodeMark(*record, "m")->mark.iteration : 0;
  }
  static Session::TrainArgs Run(int64_t iterations, records::CheckpointPolicy policy,
                                bool resumes = false) {
    auto args = TrainArgsFor(iterations);
    args.config.batch_size = 50;  // four steps in an epoch
    args.config.shuffle = true;
    args.config.checkpoints = policy;
    args.resumes = resumes;
    return args;
  }
};

// In memory, on a store, and on a store that was reopened in between.
TEST_F(CheckpointTest, RestoringGoesOnWithTheSameBits) {
  for (const std::string where : {"memory", "store", "restarted"}) {
    SCOPED_TRACE(where);
    auto session = where == "memory" ? Create("m") : *Make(absl::StrCat("large", where));
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(session.get()).ok());
    const auto kept = Keep(session.get(), "a");
    ASSERT_TRUE(kept.ok()) << kept.status();
    EXPECT_EQ((*kept)->step, 5);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(session.get()).ok());
    const auto first = Read(session.get());
    if (where == "restarted") {
      const std::string id = session->info().id;
      session = nullptr;
      Restart();
      session = *Find(id);
    }
    EXPECT_EQ(Ids(session.get()), std::vector<std::string>{"a"});
    const auto step = Restore(session.get(), "a");
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_EQ(*step, 5);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(session.get()).ok());
    const auto second = Read(session.get());
    EXPECT_EQ(Values(*second), Values(*first));
    EXPECT_EQ(second->step, 10);
    EXPECT_EQ(second->optimizer_step, first->optimizer_step);
  }
}

TEST_F(CheckpointTest, ARetryGetsTheFirstAnswerAlsoAfterARestart) {
  auto session = *Make("m");
  ASSERT_TRUE(Step(session.get()).ok());
  ASSERT_TRUE(Keep(session.get(), "a", {"k", 1}).ok());
  ASSERT_TRUE(Step(session.get()).ok());
  EXPECT_EQ((*Keep(session.get(), "a", {"k", 1}))->step, 1);
  ASSERT_EQ(*Restore(session.get(), "a", {}, {"r", 2}), 1);
  ASSERT_TRUE(Step(session.get()).ok());
  session = nullptr;
  Restart();
  session = *Find("m");
  EXPECT_EQ((*Keep(session.get(), "a", {"k", 1}))->step, 1);
  EXPECT_EQ(*Restore(session.get(), "a", {}, {"r", 2}), 1);
  EXPECT_EQ(Read(session.get())->step, 2);  // not restored again
  ASSERT_TRUE(Drop(session.get(), "a", {"d", 3}).ok());
  session = nullptr;
  Restart();
  session = *Find("m");
  EXPECT_TRUE(Drop(session.get(), "a", {"d", 3}).ok());
  EXPECT_EQ(Drop(session.get(), "a").code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointTest, EqualNumbersAreKeptOnce) {
  auto session = *Make("m");
  ASSERT_TRUE(Keep(session.get(), "a").ok());
  ASSERT_TRUE(Keep(session.get(), "b").ok());
  EXPECT_EQ(Records(&store), 3u);  // two names, one state
  ASSERT_TRUE(Step(session.get()).ok());
  ASSERT_TRUE(Drop(session.get(), "a").ok());
  EXPECT_EQ(*Restore(session.get(), "b"), 0);
  ASSERT_TRUE(Drop(session.get(), "b").ok());
  EXPECT_EQ(Records(&store), 0u);
}

TEST_F(CheckpointTest, ADeletedModelLeavesNone) {
  auto session = *Make("m");
  ASSERT_TRUE(Keep(session.get(), "a").ok());
  auto in_memory = Create("m");
  ASSERT_TRUE(Keep(in_memory.get(), "a").ok());
  EXPECT_EQ(Records(&archive), 2u);
  ASSERT_TRUE(DeleteModel("m").ok());
  ASSERT_TRUE(Delete("m").ok());
  store::WaitForAnswers(&archive);
  EXPECT_EQ(Records(&store), 0u);
  EXPECT_EQ(Records(&archive), 0u);
}

TEST_F(CheckpointTest, RefusesWhatCannotBe) {
  auto session = Create("m");
  EXPECT_EQ(Restore(session.get(), "a").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(Keep(session.get(), "a").ok());
  EXPECT_EQ(Keep(session.get(), "a").status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(Step(session.get()).ok());
  const auto mismatch = Restore(session.get(), "a", 0);
  EXPECT_EQ(mismatch.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Read(session.get())->step, 1);
  EXPECT_EQ(*Restore(session.get(), "a", 1), 0);
  const auto run = Train(session.get(), kForever);
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(base::ReasonOf(Restore(session.get(), "a").status())->reason, "RUN_UNDER_WAY");
}

TEST_F(CheckpointTest, AModelHasAtMostAHundred) {
  auto session = Create("m");
  for (int64_t i = 0; i < base::kMaxCheckpoints; ++i) {
    ASSERT_TRUE(Keep(session.get(), absl::StrCat("c", i)).ok());
  }
  const auto refused = Keep(session.get(), "more");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  auto args = Run(4, {0, 3, true});
  Waiter<RunPtr> waiter;
  session->Train(std::move(args), waiter.callback());
  EXPECT_EQ(waiter.Wait().status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(Drop(session.get(), "c0").ok());
  EXPECT_TRUE(Keep(session.get(), "more").ok());
}

// A full archive in memory rejects checkpoints, and keeps nothing of the rejected ones.
TEST_F(CheckpointTest, WhatTheArchiveRefusesIsNotThere) {
  store::MemoryStore small(3000);
  environment.archive = &small;
  auto session = Create("m");
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Step(session.get()).ok());
    const std::string id = absl::StrCat("c", i);
    const auto kept = Keep(session.get(), id, {id, 1});
    if (kept.ok()) continue;
    EXPECT_EQ(kept.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(Restore(session.get(), id).status().code(), absl::StatusCode::kNotFound);
    ASSERT_TRUE(Drop(session.get(), "c0").ok());
    EXPECT_TRUE(Keep(session.get(), id, {id, 1}).ok());  // not a retry of the rejected request
    store::WaitForAnswers(&small);
    environment.archive = &archive;
    return;
  }
  FAIL() << "3,000 bytes are enough for 100 checkpoints";
}

TEST_F(CheckpointTest, DuringARunTheyAreOfAStepsEnd) {
  auto session = Create("m");
  const auto run = Train(session.get(), kForever);
  ASSERT_TRUE(run.ok());
  const auto kept = Keep(session.get(), "a");
  ASSERT_TRUE(kept.ok()) << kept.status();
  (*run)->RequestStop(records::StopReason::kStopped);
  WaitFor(*run);
  ASSERT_TRUE(Restore(session.get(), "a").ok());
  // The same number of steps of the same run, from the beginning.
  if ((*kept)->step == 0) return;
  const auto again = Create("again");
  const auto same = Train(again.get(), (*kept)->step);
  ASSERT_TRUE(same.ok());
  WaitFor(*same);
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(again.get())));
}

TEST_F(CheckpointTest, ARunKeepsItsNewest) {
  for (const bool in_memory : {true, false}) {
    SCOPED_TRACE(in_memory);
    auto session = in_memory ? Create("m") : *Make("m");
    WaitFor(Start(session.get(), Run(20, {6, 2, false})));
    EXPECT_EQ(Ids(session.get()),
              (std::vector<std::string>{"run-1-iteration-12", "run-1-iteration-18"}));
    const auto first = session->ListCheckpoints("", 1).front();
    EXPECT_EQ(first->step, 12);
    EXPECT_EQ(first->iteration, 12);
    EXPECT_EQ(first->run, 1);
    ASSERT_TRUE(first->metrics.has_value());
    EXPECT_EQ(first->metrics->rows, 50);
    // It is the state of the run after this number of steps.
    ASSERT_EQ(*Restore(session.get(), "run-1-iteration-12"), 12);
    const auto other = SessionOf(XorNetwork()->spec());
    WaitFor(Start(other.get(), Run(12, {})));
    EXPECT_EQ(Values(*Read(session.get())), Values(*Read(other.get())));
    // Checkpoints of earlier runs count.
    WaitFor(Start(session.get(), Run(6, {6, 2, false})));
    EXPECT_EQ(Ids(session.get()),
              (std::vector<std::string>{"run-1-iteration-18", "run-2-iteration-6"}));
    store::Store* const kept_in = in_memory ? &archive : &store;
    store::WaitForAnswers(kept_in);
    EXPECT_EQ(Records(kept_in), 3u);  // two names of the same bits
  }
}

// If checkpoints are made faster than they are stored, the run waits, and ends.
TEST_F(CheckpointTest, ARunWaitsForItsCheckpoints) {
  for (int i = 0; i < 20; ++i) {
    auto session = Create(absl::StrCat("m", i));
    EXPECT_EQ(WaitFor(Start(session.get(), Run(300, {1, 2, true}))).stop_reason,
              records::StopReason::kCompleted);
    EXPECT_EQ(Ids(session.get()).size(), 3u);
  }
}

TEST_F(CheckpointTest, ARunKeepsItsBestEpoch) {
  auto session = *Make("m");
  auto args = Run(40, {0, 3, true});
  args.validation.rows = XorRows(40);
  std::vector<double> losses;
  const auto run = Start(session.get(), std::move(args));
  WaitFor(run);
  const auto checkpoints = session->ListCheckpoints("", 10);
  ASSERT_EQ(checkpoints.size(), 1u);
  const auto& best = *checkpoints.front();
  EXPECT_EQ(best.id, "run-1-best");
  EXPECT_TRUE(best.best);
  EXPECT_EQ(best.metrics->rows, 40);
  EXPECT_EQ(best.iteration % 4, 0);
  // The same run with early stopping, which restores the best epoch, ends with the same bits.
  auto stopping = Run(40, {});
  stopping.validation.rows = XorRows(40);
  stopping.config.early_stopping = records::EarlyStopping{1000, 0, true};
  const auto other = SessionOf(XorNetwork()->spec());
  const auto other_run = Start(other.get(), std::move(stopping));
  EXPECT_EQ(WaitFor(other_run).best_iteration, best.iteration);
  ASSERT_TRUE(Restore(session.get(), "run-1-best").ok());
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(other.get())));
}

TEST_F(CheckpointTest, WithoutValidationTheBestEpochIsThatOfItsBatches) {
  auto session = Create("m");
  WaitFor(Start(session.get(), Run(4, {0, 3, true})));
  const auto best = session->ListCheckpoints("", 1).front();
  EXPECT_EQ(best->metrics->rows, 200);
  EXPECT_GT(best->metrics->loss, 0.1);
  EXPECT_LT(best->metrics->loss, 1);
}

// A run that resumes after restarts leaves the same checkpoints as an uninterrupted one.
TEST_F(CheckpointTest, ARunThatGoesOnLeavesTheSame) {
  limits.mark_interval = absl::ZeroDuration();
  Restart();
  const records::CheckpointPolicy policy{500, 3, true};
  auto steady = *Make("steady");
  WaitFor(Start(steady.get(), Run(20'000, policy, true)));
  auto cut = *Make("cut");
  RunPtr run = Start(cut.get(), Run(20'000, policy, true));
  for (int i = 0; i < 5; ++i) {
    cut = nullptr;
    run = nullptr;
    Restart();
    cut = *Find("cut");
  }
  run = *cut->FindRun(0);
  WaitFor(run);
  steady = *Find("steady");
  const auto expected = steady->ListCheckpoints("", 10);
  const auto got = cut->ListCheckpoints("", 10);
  ASSERT_EQ(got.size(), expected.size());
  ASSERT_EQ(got.size(), 4u);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i]->id, expected[i]->id);
    EXPECT_EQ(got[i]->state_hash, expected[i]->state_hash);
    EXPECT_EQ(got[i]->step, expected[i]->step);
  }
}

// Validated on inverted labels, a run is best at the beginning, even if it is interrupted later.
TEST_F(CheckpointTest, ARunThatGoesOnKnowsItsBestEpoch) {
  limits.mark_interval = absl::ZeroDuration();
  Restart();
  auto opposite = engine::XorData(200, 1, engine::DataType::kFloat32);
  for (int32_t& c : opposite.classes) c = 1 - c;
  const auto validation = std::make_shared<const engine::Dataset>(std::move(opposite));
  const auto args = [&] {
    auto run = Run(40'000, {0, 3, true}, true);
    run.validation.rows = validation;
    return run;
  };
  const auto steady = Create("steady");
  WaitFor(Start(steady.get(), args()));
  const auto expected = steady->ListCheckpoints("", 1).front();
  EXPECT_LT(expected->iteration, 100);
  auto session = *Make("m");
  const records::Uid uid = session->uid();
  Start(session.get(), args());
  while (StoredIteration(uid) <= expected->iteration) absl::SleepFor(absl::Milliseconds(1));
  session = nullptr;
  Restart();
  ASSERT_GT(StoredIteration(uid), expected->iteration) << "the run was not interrupted";
  session = *Find("m");
  const RunPtr run = *session->FindRun(0);
  EXPECT_EQ(WaitFor(run).iterations, 40'000);
  const auto best = session->ListCheckpoints("", 10);
  ASSERT_EQ(best.size(), 1u);
  EXPECT_EQ(best.front()->iteration, expected->iteration);
  EXPECT_EQ(best.front()->state_hash, expected->state_hash);
}

TEST_F(CheckpointTest, ADamagedOneIsNamedAndAlone) {
  auto session = *Make("m");
  ASSERT_TRUE(Keep(session.get(), "a").ok());
  ASSERT_TRUE(Step(session.get()).ok());
  ASSERT_TRUE(Keep(session.get(), "b").ok());
  const auto bad = session->ListCheckpoints("", 1).front();
  const std::string key = records::CheckpointStateKey(session->uid(), bad->state_hash);
  std::string value = **store.Get(records::kCheckpoints, key);
  value.back() = static_cast<char>(value.back() ^ 1);
  store::WriteBatch batch;
  batch.Put(records::kCheckpoints, key, value);
  store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  store::WaitForAnswers(&store);
  const auto refused = Restore(session.get(), "a");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(base::ReasonOf(refused.status())->metadata.at("record"), "models/m/checkpoints/a");
  EXPECT_EQ(Read(session.get())->step, 1);
  EXPECT_EQ(*Restore(session.get(), "b"), 1);
  EXPECT_TRUE(Drop(session.get(), "a").ok());
}

}  // namespace
}  // namespace backprop::session
