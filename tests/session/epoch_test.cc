// Epochs across runs: the validation rows, and how a run continues an interrupted epoch.
#include <gtest/gtest.h>

#include <thread>

#include "server/engine/split.h"
#include "server/records/frame.h"
#include "server/records/records.pb.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"
#include "server/records/tables.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

constexpr int64_t kRows = 100;
constexpr int64_t kBatch = 7;
constexpr int64_t kPerEpoch = 12;  // batches of the 80 training rows that a split of 0.2 leaves

class EpochTest : public DurableFixture {
 protected:
  static engine::NetworkSpec SpecWith(engine::OptimizerKind optimizer) {
    auto spec = engine::XorSpec(3, engine::DataType::kFloat32);
    spec.optimizer.kind = optimizer;
    spec.optimizer.learning_rate = 0.05;
    spec.layers[0].dropout = 0.2;
    return spec;
  }
  // Mini-batches shuffled in each epoch, with a stratified split.
  static Session::TrainArgs Args(int64_t iterations, bool continues = false) {
    Session::TrainArgs args;
    args.data.rows = XorRows(kRows);
    args.config.iterations = iterations;
    args.config.batch_size = kBatch;
    args.config.shuffle = true;
    args.config.validation_split = 0.2;
    args.config.stratify = true;
    args.config.continue_epoch = continues;
    args.cancelled = Never();
    return args;
  }
  static Session::TrainArgs Epochs(int64_t epochs, bool continues = false) {
    auto args = Args(epochs * kPerEpoch, continues);
    args.config.whole_epochs = true;
    return args;
  }
  static int64_t Resumed(const RunPtr& run) { return run->config().resumed_batches(); }
};

// A run that is interrupted after any number of batches and continued ends with the bits of a
// single run.
TEST_F(EpochTest, ACutRunThatIsContinuedEqualsOneRun) {
  for (const auto optimizer : {engine::OptimizerKind::kSgd, engine::OptimizerKind::kAdam}) {
    for (const bool plateau : {false, true}) {
      auto spec = SpecWith(optimizer);
      if (plateau) {
        spec.optimizer.schedule.kind = engine::ScheduleKind::kReduceOnPlateau;
        spec.optimizer.schedule.patience = 0;
        spec.optimizer.schedule.threshold = 0.05;
      }
      // Without validation rows, the plateau schedule uses all batches of an epoch, including those
      // of an earlier run.
      const auto plan = [&](Session::TrainArgs args) {
        if (plateau) {
          args.config.validation_split = 0;
          args.data.rows = XorRows(80);
        }
        return args;
      };
      const auto whole = SessionOf(spec);
      WaitFor(Start(whole.get(), plan(Epochs(5))));
      for (const int64_t cut :
           {int64_t{1}, int64_t{5}, kPerEpoch - 1, kPerEpoch, kPerEpoch + 1, 3 * kPerEpoch - 1}) {
        SCOPED_TRACE(cut);
        const auto session = SessionOf(spec);
        WaitFor(Start(session.get(), plan(Args(cut))));
        const auto rest = Start(session.get(), plan(Epochs(5 - cut / kPerEpoch, true)));
        EXPECT_EQ(Resumed(rest), cut % kPerEpoch);
        const records::RunSummary summary = WaitFor(rest);
        EXPECT_EQ(summary.iterations, 5 * kPerEpoch - cut) << "the rest of whole epochs";
        EXPECT_EQ(Values(*Read(session.get())), Values(*Read(whole.get())));
        EXPECT_EQ(Read(session.get())->plateau.learning_rate,
                  Read(whole.get())->plateau.learning_rate);
      }
    }
  }
}

TEST_F(EpochTest, WhereverARunIsStoppedItCanBeContinued) {
  const auto spec = SpecWith(engine::OptimizerKind::kAdam);
  const auto session = SessionOf(spec);
  for (int cuts = 0; cuts < 5; ++cuts) {
    const auto run = Start(session.get(), Args(kForever, true));
    const int64_t seen = session->activity().step;
    while (session->activity().step == seen) std::this_thread::yield();
    run->RequestStop(records::StopReason::kStopped);
    WaitFor(run);
  }
  WaitFor(Start(session.get(), Epochs(1, true)));
  const int64_t steps = Read(session.get())->step;
  EXPECT_EQ(steps % kPerEpoch, 0) << "the epoch was finished";
  const auto whole = SessionOf(spec);
  WaitFor(Start(whole.get(), Args(steps)));
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(whole.get())));
}

TEST_F(EpochTest, TheFirstEventAndTheEpochCountSaySo) {
  const auto session = SessionOf(SpecWith(engine::OptimizerKind::kSgd));
  WaitFor(Start(session.get(), Args(kPerEpoch + 5)));
  auto args = Epochs(2, true);
  args.config.report_every = 1;
  const auto run = Start(session.get(), std::move(args));
  WaitFor(run);
  int64_t next = 1;
  const auto started = std::get<records::RunStarted>(run->log().Read(&next)->body);
  EXPECT_EQ(started.total_iterations, 2 * kPerEpoch - 5);
  EXPECT_EQ(started.start_step, kPerEpoch + 5);
  std::vector<int64_t> batches_of_epoch(3);
  while (const auto event = run->log().Read(&next)) {
    if (const auto* progress = std::get_if<records::Progress>(&event->body)) {
      ++batches_of_epoch.at(static_cast<size_t>(progress->epoch));
    }
  }
  EXPECT_EQ(batches_of_epoch, (std::vector<int64_t>{0, kPerEpoch - 5, kPerEpoch}));
}

// A change that would change the batches starts a new epoch.
TEST_F(EpochTest, AnotherPlanBeginsANewEpoch) {
  using Change = std::function<void(Session::TrainArgs*)>;
  const std::pair<const char*, Change> changes[] = {
      {"not asked", [](auto* args) { args->config.continue_epoch = false; }},
      {"rows", [](auto* args) { args->data.rows = XorRows(kRows + 1); }},
      {"batch size", [](auto* args) { args->config.batch_size = kBatch + 1; }},
      {"shuffle", [](auto* args) { args->config.shuffle = false; }},
      {"split", [](auto* args) { args->config.validation_split = 0.201; }},
      {"stratify", [](auto* args) { args->config.stratify = false; }},
      {"redraw", [](auto* args) { args->config.redraw_split = true; }},
  };
  for (const auto& [what, change] : changes) {
    const auto session = SessionOf(SpecWith(engine::OptimizerKind::kSgd));
    WaitFor(Start(session.get(), Args(kPerEpoch + 5)));
    auto args = Epochs(1, true);
    change(&args);
    const auto run = Start(session.get(), std::move(args));
    EXPECT_EQ(Resumed(run), 0) << what;
    EXPECT_EQ(WaitFor(run).iterations, kPerEpoch) << what;
    // The epoch that the last run left counts, not that of an earlier run.
    const auto next = Start(session.get(), Epochs(1, true));
    EXPECT_EQ(Resumed(next), 0) << what;
    WaitFor(next);
  }
}

TEST_F(EpochTest, AStepInBetweenBeginsANewEpochAndAWholeEpochLeavesNothing) {
  const auto session = SessionOf(SpecWith(engine::OptimizerKind::kSgd));
  WaitFor(Start(session.get(), Args(5)));
  ASSERT_TRUE(Step(session.get()).ok());
  const auto after_step = Start(session.get(), Args(kPerEpoch, true));
  EXPECT_EQ(Resumed(after_step), 0);
  WaitFor(after_step);
  const auto after_epoch = Start(session.get(), Args(kPerEpoch + 2, true));
  EXPECT_EQ(Resumed(after_epoch), 0);
  WaitFor(after_epoch);
  const auto again = Start(session.get(), Args(1, true));
  EXPECT_EQ(Resumed(again), 2);
  WaitFor(again);
}

TEST_F(EpochTest, ARestoredCheckpointBeginsANewEpochUnlessItIsWhereTheRunEnded) {
  ASSERT_TRUE(Make("m").ok());
  const auto session = *Find("m");
  auto args = Args(kPerEpoch + 5);
  args.config.checkpoints = {5, 10, false};
  WaitFor(Start(session.get(), std::move(args)));  // checkpoints at 5, 10, 15
  const auto restore = [&](const std::string& id) {
    Waiter<int64_t> waiter;
    Session::CheckpointArgs checkpoint;
    checkpoint.id = id;
    checkpoint.cancelled = Never();
    session->RestoreCheckpoint(std::move(checkpoint), std::nullopt, waiter.callback());
    ASSERT_TRUE(waiter.Wait().ok()) << waiter.Wait().status();
  };
  restore("run-1-iteration-15");
  const auto other = Start(session.get(), Args(1, true));
  EXPECT_EQ(Resumed(other), 0);
  WaitFor(other);
}

TEST_F(EpochTest, WhereAnEpochWasLeftSurvivesARestart) {
  ASSERT_TRUE(Make("m").ok());
  WaitFor(Start(Find("m")->get(), Args(kPerEpoch + 5)));
  const auto whole = SessionOf(Spec("m"));
  WaitFor(Start(whole.get(), Epochs(3)));
  Restart();
  const auto run = Start(Find("m")->get(), Epochs(2, true));
  EXPECT_EQ(Resumed(run), 5);
  WaitFor(run);
  EXPECT_EQ(Values(*Read(Find("m")->get())), Values(*Read(whole.get())));
}

// If a crash ended a run, the position in its epoch is unknown.
TEST_F(EpochTest, ARunThatACrashEndedLeavesNoEpoch) {
  const auto session = *Make("m");
  WaitFor(Start(session.get(), Args(5)));
  records::StoredRun lost;  // as StartRun records a run that does not resume
  lost.number = 2;
  lost.start_step = 5;
  store::WriteBatch batch;
  batch.Put(records::kRuns, records::RunKey(session->uid(), records::RunPart::kRun),
            records::EncodeRun(lost));
  Waiter<int> stored;
  store.Commit(std::move(batch), store::Durability::kSync, nullptr,
               [done = stored.callback()](const absl::Status&) mutable { done(0); });
  stored.Wait().IgnoreError();
  Restart();
  const auto run = Start(Find("m")->get(), Args(1, true));
  EXPECT_EQ(run->number(), 3);
  EXPECT_EQ(Resumed(run), 0);
  WaitFor(run);
}

// A run that continues an epoch and is interrupted by restarts.
TEST_F(EpochTest, AContinuedRunGoesOnAfterARestart) {
  constexpr int64_t kEpochs = 8000;
  ASSERT_TRUE(Make("m").ok());
  WaitFor(Start(Find("m")->get(), Args(kPerEpoch + 5)));
  const auto whole = SessionOf(Spec("m"));
  WaitFor(Start(whole.get(), Epochs(kEpochs)));
  const auto attach = [&] {
    auto args = Epochs(kEpochs - 1, true);
    args.config.report_every = 100;
    args.resumes = true;
    args.key = {"t", 1};
    return Start(Find("m")->get(), std::move(args));
  };
  int restarts = 0;
  for (;; ++restarts) {
    const auto run = attach();
    EXPECT_EQ(Resumed(run), 5);
    const int64_t seen = run->log().last_sequence();
    while (!run->finished() && run->log().last_sequence() < seen + 3) std::this_thread::yield();
    if (run->finished()) break;
    Restart();
  }
  EXPECT_GE(restarts, 1);
  EXPECT_EQ(WaitFor(attach()).iterations, (kEpochs - 1) * kPerEpoch - 5);
  EXPECT_EQ(Values(*Read(Find("m")->get())), Values(*Read(whole.get())));
}

// Training rows never become validation rows: all runs on the same rows have the same split.
TEST_F(EpochTest, EveryRunHoldsOutTheSameRowsUnlessAskedToRedraw) {
  const auto held_out = [&](Session* session, bool redraw) {
    // The loss is 0 only if all validation rows have weight 0; here the loss on each single row
    // shows whether it was in the validation part.
    auto args = Epochs(1);
    args.config.redraw_split = redraw;
    args.config.stratify = false;
    const auto run = Start(session, std::move(args));
    const records::RunSummary summary = WaitFor(run);
    const auto state = Read(session);
    const auto rows = XorRows(kRows);
    for (const uint64_t index : {uint64_t{0}, static_cast<uint64_t>(state->step - kPerEpoch)}) {
      const auto split =
          engine::SplitForValidation(rows, {0.2, session->network().spec().seed, index});
      engine::Dataset validation;
      engine::Workspace workspace;
      const auto loss = engine::Evaluate(session->network(), *state,
                                         split.validation.View(0, 20, &validation), &workspace);
      if (loss.mean() == summary.validation->loss) return index;
    }
    ADD_FAILURE() << "rows of no known split";
    return uint64_t{999};
  };
  const auto session = SessionOf(SpecWith(engine::OptimizerKind::kSgd));
  EXPECT_EQ(held_out(session.get(), false), 0U);
  EXPECT_EQ(held_out(session.get(), false), 0U) << "at another step count";
  EXPECT_EQ(held_out(session.get(), true), static_cast<uint64_t>(2 * kPerEpoch));
}

// A run that an earlier version started and this one resumes keeps its split, which that version
// drew from the seed and the step count, without stratification.
TEST_F(EpochTest, ARunOfAnEarlierVersionKeepsItsSplit) {
  const auto session = *Make("m");
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(session.get()).ok());
  const auto expected = SessionOf(Spec("m"));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(expected.get()).ok());
  auto by_old_rule = Epochs(3);
  by_old_rule.config.redraw_split = true;
  by_old_rule.config.stratify = false;
  WaitFor(Start(expected.get(), std::move(by_old_rule)));

  records::v1::Run old;
  old.set_number(1);
  old.set_resumes(true);
  old.set_start_step(5);
  old.set_training_chunks(1);
  old.set_model("m");
  old.mutable_config()->set_iterations(3 * kPerEpoch);
  old.mutable_config()->set_batch_size(kBatch);
  old.mutable_config()->set_shuffle(true);
  old.mutable_config()->set_report_every(1);
  old.mutable_config()->set_validation_split(0.2);
  store::WriteBatch batch;
  batch.Put(records::kRuns, records::RunKey(session->uid(), records::RunPart::kRun),
            records::Seal(old));
  auto chunks = records::EncodeRows(*XorRows(kRows));
  ASSERT_EQ(chunks.size(), 1U);
  batch.Put(records::kChunks, records::ChunkKey(session->uid(), 1, records::RowsOf::kTraining, 0),
            std::move(chunks[0].record));
  Waiter<int> stored;
  store.Commit(std::move(batch), store::Durability::kSync, nullptr,
               [done = stored.callback()](const absl::Status&) mutable { done(0); });
  stored.Wait().IgnoreError();
  Restart();
  const auto run = *(*Find("m"))->FindRun(1);
  const records::RunSummary summary = WaitFor(run);
  EXPECT_EQ(summary.iterations, 3 * kPerEpoch);
  EXPECT_EQ(run->log().last_sequence(), 3 * kPerEpoch + 2) << "no reports by time";
  EXPECT_EQ(Values(*Read(Find("m")->get())), Values(*Read(expected.get())));
}

}  // namespace
}  // namespace backprop::session
