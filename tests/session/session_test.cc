#include "server/session/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "server/base/status.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

using SessionTest = SessionFixture;
using absl::StatusCode;

TEST_F(SessionTest, StepsCountUpAndAReadSeesThem) {
  auto session = Create("m");
  const auto before = Read(session.get());
  for (int64_t i = 1; i <= 5; ++i) {
    const auto outcome = Step(session.get());
    ASSERT_TRUE(outcome.ok());
    EXPECT_EQ(outcome->step, i);
    EXPECT_EQ(Read(session.get())->step, i);
    EXPECT_EQ(session->activity().step, i);
  }
  EXPECT_EQ(before->step, 0) << "a state that was read stays as it is";
}

TEST_F(SessionTest, ExpectedStepIsCheckedExactly) {
  auto session = Create("m");
  EXPECT_TRUE(Step(session.get(), {}, 0).ok());
  for (int64_t wrong : {0, 2}) {
    const auto outcome = Step(session.get(), {}, wrong);
    ASSERT_EQ(outcome.status().code(), StatusCode::kAborted);
    EXPECT_EQ(base::ReasonOf(outcome.status())->metadata.at("current_step"), "1");
  }
  EXPECT_EQ(session->activity().step, 1);
}

TEST_F(SessionTest, ARetriedStepGetsTheFirstAnswerAndChangesNothing) {
  auto session = Create("m");
  const auto first = Step(session.get(), {"r1", 1});
  const auto values = Values(*Read(session.get()));
  const auto retry = Step(session.get(), {"r1", 1}, 99);
  ASSERT_TRUE(retry.ok()) << "also when the step it expects has passed";
  EXPECT_EQ(retry->step, first->step);
  EXPECT_EQ(retry->result.loss.mean(), first->result.loss.mean());
  EXPECT_EQ(Values(*Read(session.get())), values);
  EXPECT_EQ(Step(session.get(), {"r1", 2}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Step(session.get(), {"r2", 1})->step, 2);
}

TEST_F(SessionTest, ACancelledCallerChangesNothing) {
  auto session = Create("m");
  const auto outcome = Step(session.get(), {}, {}, [] { return true; });
  EXPECT_EQ(outcome.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(session->activity().step, 0);
}

// In whatever order concurrent steps are made, each step number is given once, and the result is
// that of the same number of sequential steps (the batch is the same).
TEST_F(SessionTest, ConcurrentStepsEqualASerialOrder) {
  auto session = Create("m");
  auto serial = Create("serial");
  std::mutex mu;
  std::set<int64_t> steps;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto outcome = Step(session.get());
        const std::lock_guard<std::mutex> lock(mu);
        EXPECT_TRUE(steps.insert(outcome->step).second);
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(*steps.begin(), 1);
  EXPECT_EQ(*steps.rbegin(), 200);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(Step(serial.get()).ok());
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(serial.get())));
}

TEST_F(SessionTest, ARunEqualsItsStepsWhateverItsSlices) {
  auto trained = Create("trained");
  auto stepped = Create("stepped");
  const auto run = Train(trained.get(), 1000);
  ASSERT_TRUE(run.ok());
  // Readers get states meanwhile; a published state must not change.
  while (!(*run)->finished()) Read(trained.get());
  EXPECT_EQ(WaitFor(*run).stop_reason, records::StopReason::kCompleted);
  for (int i = 0; i < 1000; ++i) {
    Waiter<records::StepOutcome> waiter;
    Session::StepArgs args;
    args.work = engine::XorData(200, 1, engine::DataType::kFloat32);
    args.cancelled = Never();
    stepped->Step(std::move(args), waiter.callback());
    ASSERT_TRUE(waiter.Wait().ok());
  }
  EXPECT_EQ(Values(*Read(trained.get())), Values(*Read(stepped.get())));
  EXPECT_EQ(trained->activity().step, 1000);
}

// A reader that waited for the current step would get at most one state per step.
TEST_F(SessionTest, AReadNeverWaitsForAStepUnderWay) {
  auto session = Create("m");
  auto args = TrainArgsFor(3);
  args.data.rows = XorRows(200'000);
  args.config.batch_size = args.data.rows->rows;
  Waiter<RunPtr> run;
  session->Train(std::move(args), run.callback());
  ASSERT_TRUE(run.Wait().ok());
  int64_t reads = 0;
  for (; !(*run.Wait())->finished(); ++reads) Read(session.get());
  EXPECT_GT(reads, 100);
}

// A snapshot taken in the middle of a run must equal the state after exactly that many steps.
TEST_F(SessionTest, AStateReadDuringARunIsThatOfAWholeStep) {
  auto session = Create("m");
  const auto run = Train(session.get(), kForever);
  std::vector<std::shared_ptr<const engine::State>> states;
  std::vector<std::vector<double>> values;
  for (int i = 0; i < 20; ++i) {
    states.push_back(Read(session.get()));
    values.push_back(Values(*states.back()));
  }
  (*run)->RequestStop(records::StopReason::kStopped);
  WaitFor(*run);
  const auto network = XorNetwork();
  const auto data = XorRows();
  auto state = engine::InitialState(*network);
  engine::State next(*network);
  engine::Workspace workspace;
  for (size_t i = 0; i < states.size(); ++i) {
    while (state->step < states[i]->step) {
      engine::TrainStep(*network, *state, data->All(), &workspace, &next);
      std::swap(*state, next);
    }
    EXPECT_EQ(Values(*state), values[i]) << "step " << state->step;
    EXPECT_EQ(Values(*states[i]), values[i]) << "and it stays as it was";
  }
}

TEST_F(SessionTest, DuringARunMutationsAreRefusedAndNameIt) {
  auto session = Create("m");
  const auto run = Train(session.get(), kForever);
  const auto step = Step(session.get());
  EXPECT_EQ(step.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(step.status())->metadata.at("run"), "models/m/runs/1");
  EXPECT_EQ(Train(session.get(), 1).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(session->activity().active_run, "models/m/runs/1");
  while (session->activity().step == 0) std::this_thread::yield();
  Waiter<RunPtr> stopped;
  session->StopTraining(0, {}, stopped.callback());
  EXPECT_EQ(*stopped.Wait(), *run);
  EXPECT_EQ(session->activity().active_run, "");
  EXPECT_GT(session->activity().step, 0) << "what it learned is kept";
  EXPECT_TRUE(Step(session.get()).ok());
}

TEST_F(SessionTest, ATrainMayWaitItsTurn) {
  auto session = Create("m");
  const auto first = Train(session.get(), kForever);
  Waiter<RunPtr> second;
  session->Train(TrainArgsFor(10, /*wait=*/true), second.callback());
  Waiter<RunPtr> third;
  session->Train(TrainArgsFor(10, /*wait=*/true), third.callback());
  EXPECT_FALSE(second.done());
  (*first)->RequestStop(records::StopReason::kStopped);
  EXPECT_EQ((*second.Wait())->name(), "models/m/runs/2");
  EXPECT_EQ((*third.Wait())->name(), "models/m/runs/3");
  EXPECT_EQ(WaitFor(*third.Wait()).stop_reason, records::StopReason::kCompleted);
}

TEST_F(SessionTest, AWaitingTrainWhoseCallerHasGoneDoesNotHoldUpTheOthers) {
  auto session = Create("m");
  const auto first = Train(session.get(), kForever);
  Waiter<RunPtr> gone, next;
  std::atomic<bool> cancelled{false};
  auto args = TrainArgsFor(10, true);
  args.cancelled = [&] { return cancelled.load(); };
  session->Train(std::move(args), gone.callback());
  session->Train(TrainArgsFor(10, true), next.callback());
  cancelled = true;
  (*first)->RequestStop(records::StopReason::kStopped);
  EXPECT_EQ(gone.Wait().status().code(), StatusCode::kCancelled);
  ASSERT_TRUE(next.Wait().ok());
  EXPECT_EQ(WaitFor(*next.Wait()).stop_reason, records::StopReason::kCompleted);
}

TEST_F(SessionTest, ARetryThatWaitsAttachesWhenItsRunStarts) {
  auto session = Create("m");
  const auto first = Train(session.get(), kForever);
  Waiter<RunPtr> original, retry;
  session->Train(TrainArgsFor(kForever, true, {"t", 1}), original.callback());
  session->Train(TrainArgsFor(kForever, true, {"t", 1}), retry.callback());
  (*first)->RequestStop(records::StopReason::kStopped);
  EXPECT_EQ(*original.Wait(), *retry.Wait());
}

TEST_F(SessionTest, WaitingTrainsAreBounded) {
  auto session = Create("m");
  const auto first = Train(session.get(), kForever);
  std::vector<std::unique_ptr<Waiter<RunPtr>>> waiting;
  for (size_t i = 0; i < base::kMaxWaitingRuns; ++i) {
    waiting.push_back(std::make_unique<Waiter<RunPtr>>());
    session->Train(TrainArgsFor(1, true), waiting.back()->callback());
  }
  EXPECT_EQ(Train(session.get(), 1, true).status().code(), StatusCode::kResourceExhausted);
  (*first)->RequestStop(records::StopReason::kStopped);
  for (auto& waiter : waiting) EXPECT_TRUE(waiter->Wait().ok());
}

TEST_F(SessionTest, ARepeatedTrainAttachesToItsRun) {
  auto session = Create("m");
  const records::RequestKey key{"t1", 1};
  const auto first = Train(session.get(), kForever, false, key);
  const auto during = Train(session.get(), kForever, false, key);
  EXPECT_EQ(*during, *first);
  (*first)->RequestStop(records::StopReason::kStopped);
  WaitFor(*first);
  const auto after = Train(session.get(), kForever, false, key);
  EXPECT_EQ(*after, *first);
}

TEST_F(SessionTest, ConcurrentRunsAreLimited) {
  environment.limits.max_concurrent_runs = 2;
  auto a = Create("a"), b = Create("b"), c = Create("c");
  const auto first = Train(a.get(), kForever);
  ASSERT_TRUE(Train(b.get(), kForever).ok());
  EXPECT_EQ(Train(c.get(), 1).status().code(), StatusCode::kResourceExhausted);
  (*first)->RequestStop(records::StopReason::kStopped);
  WaitFor(*first);
  EXPECT_TRUE(Train(c.get(), 1).ok());
}

// More runs than threads: all of them make progress, and none waits for the end of another.
TEST_F(SessionTest, ManyRunsProgressSideBySide) {
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < 8; ++i) sessions.push_back(Create("m" + std::to_string(i)));
  for (auto& session : sessions) ASSERT_TRUE(Train(session.get(), kForever).ok());
  for (auto& session : sessions) {
    while (session->activity().step == 0) std::this_thread::yield();
  }
  std::set<std::string> under_way;
  for (auto& session : sessions) under_way.insert(session->activity().active_run);
  EXPECT_EQ(under_way.size(), 8U);
}

TEST_F(SessionTest, DeletingAModelEndsItsRunAndWhoWaits) {
  auto session = Create("m");
  const auto run = Train(session.get(), kForever);
  Waiter<RunPtr> waiting;
  session->Train(TrainArgsFor(1, true), waiting.callback());
  ASSERT_TRUE(Delete("m", {}).ok());
  EXPECT_EQ(base::ReasonOf(waiting.Wait().status())->reason, "MODEL_DELETED");
  EXPECT_EQ(WaitFor(*run).stop_reason, records::StopReason::kModelDeleted);
  EXPECT_EQ(base::ReasonOf(Step(session.get()).status())->reason, "MODEL_DELETED");
}

TEST_F(SessionTest, ARunEndsWithItsLastOwner) {
  auto session = Create("m");
  const auto run = *Train(session.get(), kForever);
  run->AddOwner();
  run->AddOwner();
  run->DropOwner();
  EXPECT_FALSE(run->stop_requested().has_value());
  run->DropOwner();
  EXPECT_EQ(WaitFor(run).stop_reason, records::StopReason::kCancelled);
}

TEST_F(SessionTest, TheLogOfARunIsCompleteAndInOrder) {
  auto session = Create("m");
  const auto run = *Train(session.get(), 1050);
  WaitFor(run);
  int64_t next = 1;
  std::vector<int64_t> iterations;
  std::vector<int64_t> sequences;
  while (const auto event = run->log().Read(&next)) {
    sequences.push_back(event->sequence);
    if (const auto* progress = std::get_if<records::Progress>(&event->body)) {
      iterations.push_back(progress->iteration);
      EXPECT_EQ(progress->step, progress->iteration);
      EXPECT_EQ(progress->epoch, progress->iteration) << "full batches";
      EXPECT_EQ(progress->metrics.rows, 200);
    }
  }
  EXPECT_EQ(iterations,
            (std::vector<int64_t>{1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1050}));
  for (size_t i = 0; i < sequences.size(); ++i)
    EXPECT_EQ(sequences[i], static_cast<int64_t>(i) + 1);
}

TEST_F(SessionTest, ADivergingRunKeepsTheLastFiniteParameters) {
  auto spec = engine::XorSpec(1, engine::DataType::kFloat32);
  spec.loss.kind = engine::Loss::kMeanSquaredError;
  spec.optimizer.learning_rate = 1e3;
  auto session = SessionOf(spec);
  auto data =
      std::make_shared<engine::Dataset>(engine::XorData(200, 1, engine::DataType::kFloat32));
  data->classes.clear();
  data->targets_per_row = 2;
  data->targets = engine::Buffer(engine::DataType::kFloat32, 400);
  Session::TrainArgs args = TrainArgsFor(1000);
  args.data.rows = data;
  Waiter<RunPtr> waiter;
  session->Train(std::move(args), waiter.callback());
  const records::RunSummary summary = WaitFor(*waiter.Wait());
  EXPECT_EQ(summary.stop_reason, records::StopReason::kDiverged);
  EXPECT_LT(summary.iterations, 1000);
  EXPECT_NE(summary.message.find("was not finite at iteration"), std::string::npos);
  const auto state = Read(session.get());
  EXPECT_EQ(state->step, summary.step);
  for (double v : Values(*state)) ASSERT_TRUE(std::isfinite(v));
}

TEST_F(SessionTest, AnEditIsAMutationLikeAStep) {
  auto session = Create("m");
  const auto edit = [&](double value, records::RequestKey key, std::optional<int64_t> expected) {
    Waiter<int64_t> waiter;
    Session::EditArgs args;
    args.edit =
        [value, network = XorNetwork()](
            const engine::State& current) -> absl::StatusOr<std::shared_ptr<engine::State>> {
      if (value < 0) return absl::InvalidArgumentError("negative");
      auto next = std::make_shared<engine::State>(*network);
      next->values = current.values.Clone();
      next->values.Set(0, value);
      next->step = current.step + 10;
      return next;
    };
    args.key = key;
    args.expected_step = expected;
    args.cancelled = Never();
    session->Edit(std::move(args), waiter.callback());
    return waiter.Wait();
  };
  EXPECT_EQ(*edit(5, {"e", 1}, 0), 10);
  EXPECT_EQ(Read(session.get())->values.Get(0), 5);
  EXPECT_EQ(*edit(7, {"e", 1}, 0), 10) << "a retry";
  EXPECT_EQ(Read(session.get())->values.Get(0), 5);
  EXPECT_EQ(edit(7, {}, 0).status().code(), StatusCode::kAborted);
  EXPECT_FALSE(edit(-1, {}, 10).ok());
  EXPECT_EQ(Read(session.get())->values.Get(0), 5);
}

TEST_F(SessionTest, DrainStopsRunsAndRefusesNewOnes) {
  auto session = Create("m");
  const auto run = *Train(session.get(), kForever);
  Waiter<RunPtr> waiting;
  session->Train(TrainArgsFor(1, true), waiting.callback());
  registry.Drain();
  EXPECT_EQ(WaitFor(run).stop_reason, records::StopReason::kServerShutdown);
  EXPECT_EQ(waiting.Wait().status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Train(session.get(), 1).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(FindIn(&registry, "m").status().code(), StatusCode::kUnavailable);
}

TEST_F(SessionTest, StoppingWhatDoesNotRunIsRefused) {
  auto session = Create("m");
  Waiter<RunPtr> idle;
  session->StopTraining(0, {}, idle.callback());
  EXPECT_EQ(base::ReasonOf(idle.Wait().status())->reason, "NO_RUN");
  EXPECT_EQ(session->FindRun(0).status().code(), StatusCode::kNotFound);
  const auto run = *Train(session.get(), kForever);
  Waiter<RunPtr> other;
  session->StopTraining(2, {}, other.callback());
  EXPECT_EQ(other.Wait().status().code(), StatusCode::kFailedPrecondition);
  Waiter<RunPtr> stopped, again;
  session->StopTraining(1, {"s", 1}, stopped.callback());
  EXPECT_TRUE(stopped.Wait().ok());
  session->StopTraining(1, {"s", 1}, again.callback());
  EXPECT_EQ(*again.Wait(), run) << "a retry gets the run that was stopped";
  EXPECT_EQ(*session->FindRun(0), run);
  EXPECT_EQ(*session->FindRun(1), run);
}

}  // namespace
}  // namespace backprop::session
