// The phases of runs, without a session.
#include "server/session/run_control.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "server/exec/lent_threads.h"
#include "server/session/checkpoints.h"
#include "server/session/memory_model_log.h"
#include "server/session/stored_model_log.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

class RunControlTest : public SessionFixture {
 protected:
  using Phase = RunControl::Phase;

  RunControlTest() {
    info.id = "m";
    environment.limits.max_concurrent_runs = 1;
    environment.limits.mark_interval = absl::Seconds(10);
  }

  absl::StatusOr<RunPtr> StartOne(int64_t iterations = 10, bool resumes = false) {
    TrainArgs args = TrainArgsFor(iterations);
    args.resumes = resumes;
    return runs.Start(&args, state);
  }
  void End() {
    runs.BeginEnd();
    runs.End();
  }

  records::ModelInfo info;
  std::shared_ptr<const engine::Network> network = XorNetwork();
  std::shared_ptr<const engine::State> state = engine::InitialState(*network);
  MemoryModelLog log{&archive, 1};
  StoredModelLog stored_log{&archive, &environment.limits, 1, store::Durability::kSync};
  Checkpoints checkpoints;
  exec::LentThreads lent_threads{&pool};
  Project& project = *environment.projects.Of("m");
  RunControl runs{&environment,
                  {info, 1, network, log, checkpoints, lent_threads, project},
                  nullptr,
                  nullptr,
                  0};
  // The runs of a model that is stored.
  RunControl stored_runs{&environment,
                         {info, 1, network, stored_log, checkpoints, lent_threads, project},
                         nullptr,
                         nullptr,
                         0};
};

TEST_F(RunControlTest, ARunStartsIsHeldContinuesAndEnds) {
  EXPECT_EQ(runs.phase(), Phase::kIdle);
  EXPECT_EQ(runs.SharedState(), nullptr);
  const RunPtr run = *StartOne();
  EXPECT_EQ(runs.phase(), Phase::kTraining);
  EXPECT_EQ(runs.active(), run);
  EXPECT_EQ(run->name(), "models/m/runs/1");
  EXPECT_EQ(runs.SharedState(), state);
  EXPECT_EQ(environment.runs_under_way, 1);
  DueCheckpoint due;
  due.state = state;
  due.iteration = 5;
  int stored = 0;
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(runs.HoldIfBehind()) << i;
    runs.KeepPeriodic(due, "state", [&](const absl::Status&) { ++stored; });
  }
  EXPECT_TRUE(runs.HoldIfBehind());
  EXPECT_EQ(runs.phase(), Phase::kHeld);
  store::WaitForAnswers(&archive);
  EXPECT_EQ(stored, 4);
  EXPECT_TRUE(runs.CheckpointStored()) << "the caller posts the next slice";
  EXPECT_FALSE(runs.CheckpointStored());
  EXPECT_EQ(runs.phase(), Phase::kTraining);
  RunControl::Last last = runs.BeginEnd();
  EXPECT_EQ(runs.phase(), Phase::kEnding);
  EXPECT_EQ(runs.active(), run) << "its end is not visible before its memory is freed";
  EXPECT_EQ(last.state, state);
  EXPECT_NE(last.trainer, nullptr);
  EXPECT_EQ(runs.End(), run);
  EXPECT_TRUE(runs.idle());
  EXPECT_EQ(runs.latest(), run);
  EXPECT_EQ(environment.runs_under_way, 0);
  EXPECT_EQ((*StartOne())->number(), 2);
  End();
}

TEST_F(RunControlTest, ARejectedRunLeavesNoTrace) {
  environment.draining = true;
  EXPECT_TRUE(absl::IsUnavailable(StartOne().status()));
  environment.draining = false;
  environment.runs_under_way = 1;
  EXPECT_TRUE(absl::IsResourceExhausted(StartOne().status()));
  environment.runs_under_way = 0;
  EXPECT_TRUE(runs.idle());
  EXPECT_EQ(environment.memory.work(), 0);
  EXPECT_EQ((*StartOne())->number(), 1);
  End();
}

TEST_F(RunControlTest, RequestsWaitInOrderToALimit) {
  ASSERT_TRUE(StartOne().ok());
  for (size_t i = 0; i < base::kMaxWaitingRuns; ++i) {
    TrainArgs args;
    args.key = {std::to_string(i), 7};
    Callback<RunPtr> done = [](const auto&) {};
    EXPECT_TRUE(runs.Enqueue(&args, &done).ok());
  }
  TrainArgs args = TrainArgsFor(1);
  Callback<RunPtr> done = [](const auto&) {};
  EXPECT_TRUE(absl::IsResourceExhausted(runs.Enqueue(&args, &done)));
  EXPECT_NE(args.data.rows, nullptr) << "not used";
  EXPECT_NE(done, nullptr);
  EXPECT_TRUE(runs.TakeReady({}).empty()) << "a run is active";
  const auto same = runs.TakeReady({"3", 7});
  ASSERT_EQ(same.size(), 1u) << "the retry of a request that waits";
  EXPECT_EQ(same.front().args.key.id, "3");
  End();
  const auto next = runs.TakeReady({});
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next.front().args.key.id, "0");
  EXPECT_EQ(runs.TakeWaiting().size(), base::kMaxWaitingRuns - 2);
  EXPECT_FALSE(runs.has_waiting());
}

TEST_F(RunControlTest, ProgressIsStoredAtIntervalsOneAtATime) {
  TrainArgs args = TrainArgsFor(10);
  args.resumes = true;
  ASSERT_TRUE(stored_runs.Start(&args, state).ok());
  EXPECT_FALSE(stored_runs.MarkIsDue());
  clock.Advance(absl::Seconds(10));
  EXPECT_TRUE(stored_runs.MarkIsDue());
  stored_runs.Mark([](const absl::Status&) {});
  clock.Advance(absl::Seconds(10));
  EXPECT_FALSE(stored_runs.MarkIsDue()) << "the last one is not stored yet";
  stored_runs.MarkStored();
  EXPECT_TRUE(stored_runs.MarkIsDue());
  stored_runs.BeginEnd();
  stored_runs.End();
  ASSERT_TRUE(StartOne().ok());
  clock.Advance(absl::Seconds(10));
  EXPECT_FALSE(runs.MarkIsDue()) << "in memory";
  End();
}

TEST_F(RunControlTest, AStoredRunIsParkedAndResumes) {
  TrainArgs args = TrainArgsFor(10);
  args.resumes = true;
  const RunPtr run = *stored_runs.Start(&args, state);
  EXPECT_FALSE(stored_runs.MustPark());
  run->RequestStop(records::StopReason::kServerShutdown);
  EXPECT_TRUE(stored_runs.MustPark());
  RunControl::Parked parked = stored_runs.Park();
  EXPECT_EQ(parked.run, run);
  EXPECT_EQ(parked.state, state);
  EXPECT_TRUE(stored_runs.idle());
  EXPECT_EQ(environment.runs_under_way, 0);

  environment.limits.max_concurrent_runs = 0;  // it was admitted before the restart
  stored_runs.Resume(run);
  EXPECT_EQ(stored_runs.phase(), Phase::kReadingRows);
  EXPECT_EQ(stored_runs.SharedState(), nullptr);
  ResumeArgs resume;
  resume.run = run;
  resume.data.training = XorRows();
  stored_runs.Continue(std::move(resume), state);
  EXPECT_EQ(stored_runs.phase(), Phase::kTraining);
  stored_log.Break();
  EXPECT_TRUE(stored_runs.MustPark());
  stored_runs.Park();
}

TEST_F(RunControlTest, ARunInMemoryEndsWithTheServer) {
  const RunPtr run = *StartOne(10, /*resumes=*/true);
  EXPECT_FALSE(run->resumes());
  run->RequestStop(records::StopReason::kServerShutdown);
  EXPECT_FALSE(runs.MustPark());
  End();
}

using RunControlDeathTest = RunControlTest;
TEST_F(RunControlDeathTest, TransitionsThatAreNotListedAreFaults) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  environment.limits.max_concurrent_runs = 5;
  EXPECT_DEATH(runs.BeginEnd(), "kIdle to kEnding");
  EXPECT_DEATH(runs.End(), "kIdle to kIdle");
  ASSERT_TRUE(StartOne().ok());
  EXPECT_DEATH((void)StartOne(), "kTraining to kTraining");
  EXPECT_DEATH(runs.Continue({}, state), "kTraining to kTraining");
  EXPECT_DEATH(runs.Resume(runs.active()), "kTraining to kReadingRows");
  End();
}

}  // namespace
}  // namespace backprop::session
