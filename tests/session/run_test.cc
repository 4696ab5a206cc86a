// What a run does in addition to steps: validation, early stopping, schedules that depend on
// losses, standardisation. Nothing of it depends on slices, threads and load.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "server/base/status.h"
#include "server/engine/schedule.h"
#include "server/engine/split.h"
#include "server/engine/standardize.h"
#include "server/engine/step.h"
#include "server/exec/compute_pool.h"
#include "server/session/errors.h"
#include "server/session/row_source.h"
#include "server/session/run_log.h"
#include "tests/engine/reference_random.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

class RunTest : public SessionFixture {
 protected:
  static engine::NetworkSpec Spec() {
    engine::NetworkSpec spec = engine::XorSpec(3, engine::DataType::kFloat32);
    spec.optimizer.kind = engine::OptimizerKind::kAdam;
    spec.optimizer.learning_rate = 0.05;
    return spec;
  }
  static std::shared_ptr<const engine::Dataset> Rows(int64_t rows, uint32_t seed) {
    return std::make_shared<engine::Dataset>(
        engine::XorData(rows, seed, engine::DataType::kFloat32));
  }
  std::shared_ptr<Session> CreateOf(const engine::NetworkSpec& spec) { return SessionOf(spec); }
  static Session::TrainArgs Epochs(int64_t epochs, int64_t batch_size = 16) {
    Session::TrainArgs args;
    args.data.rows = Rows(80, 1);
    args.config.batch_size = batch_size;
    args.config.iterations = epochs * engine::BatchesPerEpoch(80, batch_size);
    args.config.shuffle = true;
    args.config.report_every = engine::BatchesPerEpoch(80, batch_size);
    args.cancelled = Never();
    return args;
  }
  static std::vector<records::Progress> ProgressOf(const RunPtr& run) {
    std::vector<records::Progress> all;
    int64_t next = 1;
    while (auto event = run->log().Read(&next)) {
      if (const auto* progress = std::get_if<records::Progress>(&event->body))
        all.push_back(*progress);
    }
    return all;
  }
  static records::Metrics Measured(const engine::NetworkSpec& spec, const engine::State& state,
                                   const engine::Dataset& data) {
    const engine::Network network(spec);
    engine::Workspace workspace;
    return records::MetricsOf(network, engine::Evaluate(network, state, data.All(), &workspace),
                              data.rows);
  }
};

TEST_F(RunTest, EveryEpochIsValidatedOnTheGivenRows) {
  auto session = CreateOf(Spec());
  auto args = Epochs(6);
  args.validation.rows = Rows(30, 2);
  const auto validation = args.validation.rows;
  const auto run = Start(session.get(), std::move(args));
  const records::RunSummary summary = WaitFor(run);
  EXPECT_EQ(summary.stop_reason, records::StopReason::kCompleted);
  const auto progress = ProgressOf(run);
  ASSERT_EQ(progress.size(), 7U) << "the first iteration and each epoch";
  EXPECT_FALSE(progress[0].validation.has_value());
  for (size_t i = 1; i < progress.size(); ++i) {
    ASSERT_TRUE(progress[i].validation.has_value());
    EXPECT_EQ(progress[i].validation->rows, 30);
  }
  const records::Metrics expected = Measured(Spec(), *Read(session.get()), *validation);
  EXPECT_EQ(progress.back().validation->loss, expected.loss) << "after the epoch's last step";
  EXPECT_EQ(summary.validation->loss, expected.loss);
  EXPECT_EQ(summary.validation->accuracy, expected.accuracy);
  EXPECT_EQ(summary.metrics->rows, 80);
}

TEST_F(RunTest, ASplitTrainsOnTheRestAlone) {
  auto session = CreateOf(Spec());
  auto other = CreateOf(Spec());
  auto args = Epochs(3, 10);
  args.config.validation_split = 0.25;
  args.config.iterations = 18;  // 60 rows in batches of 10, three times
  // The same computed separately, with the training rows of the published scheme.
  const engine::Split split = engine::SplitForValidation(args.data.rows, {0.25, Spec().seed});
  const auto copy = [](const engine::RowSet& rows) {
    engine::Dataset copied;
    rows.View(0, rows.rows(), &copied);
    return std::make_shared<engine::Dataset>(std::move(copied));
  };
  auto by_hand = Epochs(3, 10);
  by_hand.config.iterations = 18;
  by_hand.data.rows = copy(split.training);
  by_hand.validation.rows = copy(split.validation);
  const records::RunSummary a = WaitFor(Start(session.get(), std::move(args)));
  const records::RunSummary b = WaitFor(Start(other.get(), std::move(by_hand)));
  EXPECT_EQ(a.metrics->rows, 60);
  EXPECT_EQ(a.validation->rows, 20);
  EXPECT_EQ(a.validation->loss, b.validation->loss);
  EXPECT_EQ(Values(*Read(session.get())), Values(*Read(other.get())));
}

// A large learning rate soon makes validation worse; a run that stopped early has the state of the
// best epoch.
TEST_F(RunTest, EarlyStoppingEndsTheRunAndRestoresTheBestEpoch) {
  for (bool restore : {true, false}) {
    SCOPED_TRACE(restore);
    auto spec = Spec();
    spec.optimizer.learning_rate = 0.3;
    auto session = CreateOf(spec);
    auto args = Epochs(500, 8);
    args.validation.rows = Rows(20, 9);
    args.config.early_stopping = records::EarlyStopping{3, 0, restore};
    const auto data = args.data.rows;
    const auto validation = args.validation.rows;
    const auto run = Start(session.get(), std::move(args));
    const records::RunSummary summary = WaitFor(run);
    ASSERT_EQ(summary.stop_reason, records::StopReason::kEarlyStopped);
    EXPECT_LT(summary.iterations, 5000);
    EXPECT_EQ(summary.restored_best, restore);
    EXPECT_EQ(summary.best_iteration + 3 * 10, summary.iterations) << "three bad epochs of ten";
    EXPECT_EQ(summary.step, summary.iterations) << "steps go on counting";
    const auto state = Read(session.get());
    EXPECT_EQ(state->step, summary.iterations);
    EXPECT_EQ(state->optimizer_step, restore ? summary.best_iteration : summary.iterations);
    EXPECT_EQ(summary.validation->loss, Measured(spec, *state, *validation).loss);
    if (restore) EXPECT_EQ(summary.validation->loss, summary.best_loss);
    const auto progress = ProgressOf(run);
    EXPECT_EQ(progress.back().iteration, summary.iterations) << "the last step is reported";

    // The parameters are those of a run of that length.
    auto shorter = CreateOf(spec);
    auto again = Epochs(1, 8);
    again.config.iterations = restore ? summary.best_iteration : summary.iterations;
    WaitFor(Start(shorter.get(), std::move(again)));
    EXPECT_EQ(Values(*Read(shorter.get())), Values(*state));
  }
}

// Patience that is exhausted in the last epoch has stopped the run as well.
TEST_F(RunTest, PatienceThatEndsWithTheLastEpochIsSaid) {
  for (const int64_t epochs : {2, 3, 4}) {
    auto session = CreateOf(Spec());
    auto args = Epochs(epochs, 80);
    args.config.early_stopping = records::EarlyStopping{2, 1e9, true};  // nothing is an improvement
    const records::RunSummary summary = WaitFor(Start(session.get(), std::move(args)));
    EXPECT_EQ(summary.stop_reason,
              epochs < 3 ? records::StopReason::kCompleted : records::StopReason::kEarlyStopped)
        << epochs << " epochs";
    EXPECT_EQ(summary.iterations, std::min<int64_t>(epochs, 3));
  }
}

TEST_F(RunTest, WithoutValidationTheEpochsTrainingLossIsLookedAt) {
  auto session = CreateOf(Spec());
  auto args = Epochs(50, 80);
  args.config.early_stopping = records::EarlyStopping{2, 1e9, true};  // nothing is an improvement
  const records::RunSummary summary = WaitFor(Start(session.get(), std::move(args)));
  EXPECT_EQ(summary.stop_reason, records::StopReason::kEarlyStopped);
  EXPECT_EQ(summary.iterations, 3) << "the first epoch is the best; two more are borne";
  EXPECT_EQ(summary.best_iteration, 1);
  EXPECT_FALSE(summary.validation.has_value());
}

// The validation rows of a split may all have weight 0; their loss of 0 must not count as the best.
TEST_F(RunTest, ValidationRowsThatWeighNothingImproveNothing) {
  auto session = CreateOf(Spec());
  auto data = engine::XorData(80, 1, engine::DataType::kFloat32);
  data.sample_weights = engine::Buffer(engine::DataType::kFloat32, 80);
  const auto order = reference::Shuffle(Spec().seed, 5, 0, 80);  // the first 20 are validation rows
  for (size_t i = 20; i < 80; ++i) data.sample_weights.Set(order[i], 1);
  auto args = Epochs(50, 20);
  args.data.rows = std::make_shared<engine::Dataset>(std::move(data));
  args.config.validation_split = 0.25;
  args.config.early_stopping = records::EarlyStopping{4, 0, true};
  const records::RunSummary summary = WaitFor(Start(session.get(), std::move(args)));
  EXPECT_EQ(summary.stop_reason, records::StopReason::kEarlyStopped);
  EXPECT_EQ(summary.iterations, 4 * 3) << "four bad epochs";
  EXPECT_EQ(summary.best_iteration, 0);
  EXPECT_FALSE(summary.restored_best);
}

TEST_F(RunTest, AStoppedRunRestoresItsBestEpochToo) {
  auto session = CreateOf(Spec());
  auto args = Epochs(1, 80);
  args.config.iterations = kForever;
  args.config.early_stopping = records::EarlyStopping{int64_t{1} << 40, 1e9, true};
  const auto run = Start(session.get(), std::move(args));
  while (session->activity().step < 5) std::this_thread::yield();
  run->RequestStop(records::StopReason::kStopped);
  const records::RunSummary summary = WaitFor(run);
  EXPECT_EQ(summary.stop_reason, records::StopReason::kStopped);
  EXPECT_TRUE(summary.restored_best);
  EXPECT_EQ(Read(session.get())->optimizer_step, 1);
}

TEST_F(RunTest, APlateauReducesTheRateAndTheModelRemembersIt) {
  auto spec = Spec();
  spec.optimizer.schedule.kind = engine::ScheduleKind::kReduceOnPlateau;
  spec.optimizer.schedule.patience = 1;
  spec.optimizer.schedule.threshold = 0.9;  // almost nothing is an improvement
  spec.optimizer.schedule.factor = 0.5;
  auto session = CreateOf(spec);
  const auto run = Start(session.get(), Epochs(7));
  WaitFor(run);
  const auto progress = ProgressOf(run);
  std::vector<double> rates;
  for (const records::Progress& p : progress) rates.push_back(p.learning_rate);
  // After the first epoch, every two bad ones reduce it.
  EXPECT_EQ(rates, (std::vector<double>{0.05, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125}));
  const auto outcome = Step(session.get());
  EXPECT_EQ(outcome->result.learning_rate, Read(session.get())->plateau.learning_rate);
  EXPECT_LT(outcome->result.learning_rate, 0.05);
}

TEST_F(RunTest, TheFirstRunFitsTheStandardisationOnItsTrainingRows) {
  auto spec = Spec();
  spec.standardize = engine::Standardize::kFitted;
  auto session = CreateOf(spec);
  EXPECT_EQ(base::ReasonOf(Step(session.get()).status())->reason, "NOT_FITTED");
  EXPECT_EQ(base::ReasonOf(session->ReadFitted().status())->reason, "NOT_FITTED");

  auto args = Epochs(2, 10);
  args.config.validation_split = 0.5;
  const engine::Split split = engine::SplitForValidation(args.data.rows, {0.5, spec.seed});
  WaitFor(Start(session.get(), std::move(args)));
  const auto fitted = Read(session.get())->standardization;
  ASSERT_NE(fitted, nullptr);
  const auto expected = engine::FitStandardization(split.training);
  EXPECT_EQ(fitted->mean, expected->mean);
  EXPECT_EQ(fitted->std, expected->std);
  EXPECT_TRUE(Step(session.get()).ok());

  auto later = Epochs(2);
  later.data.rows = Rows(50, 7);
  later.config.batch_size = 50;
  WaitFor(Start(session.get(), std::move(later)));
  EXPECT_EQ(Read(session.get())->standardization, fitted) << "it is kept";
}

TEST_F(RunTest, InputsWhoseDeviationOverflowsAreNotFitted) {
  auto spec = Spec();
  spec.standardize = engine::Standardize::kFitted;
  spec.data_type = engine::DataType::kFloat64;
  auto session = CreateOf(spec);
  auto data = engine::XorData(80, 1, engine::DataType::kFloat64);
  for (int64_t row = 0; row < 40; ++row) data.inputs.Set(2 * row, 1e300);
  auto args = Epochs(1);
  args.data.rows = std::make_shared<engine::Dataset>(std::move(data));
  args.config.validation_split = 0.2;
  const records::RunSummary summary = WaitFor(Start(session.get(), std::move(args)));
  EXPECT_EQ(summary.stop_reason, records::StopReason::kDiverged);
  EXPECT_NE(summary.message.find("was not finite"), std::string::npos);
  EXPECT_FALSE(summary.metrics.has_value());
  EXPECT_EQ(Read(session.get())->standardization, nullptr) << "the next run may fit it";
}

// The same requests give the same bytes, on one thread or many, alone or with other runs and
// readers. Every feature that could depend on timing is in use.
TEST_F(RunTest, ItsMemoryIsCountedWhileItGoesOn) {
  const auto model = Create("m");
  const int64_t models = environment.memory.models();
  auto args = TrainArgsFor(kForever);
  const int64_t rows = args.data.rows->size_bytes();
  const auto run = Start(model.get(), std::move(args));
  EXPECT_GE(environment.memory.work(), rows + model->StateBytes());
  run->RequestStop(records::StopReason::kStopped);
  WaitFor(run);
  EXPECT_EQ(environment.memory.work(), 0);
  EXPECT_GT(environment.memory.models(), models) << "the latest run is kept, with its log";
}

TEST_F(RunTest, OneThatDoesNotFitIntoTheMemoryIsRefused) {
  const auto model = Create("m");
  const auto first = Start(model.get(), TrainArgsFor(kForever));
  const int64_t each = environment.memory.work();
  environment.limits.memory_limit_bytes = 2 * each - 1;
  const auto other = Create("n");
  const auto refused = Train(other.get(), kForever);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
  EXPECT_EQ(environment.runs_under_way, 1);
  EXPECT_EQ(environment.memory.work(), each);
  first->RequestStop(records::StopReason::kStopped);
  WaitFor(first);
  EXPECT_TRUE(Train(other.get(), 10).ok());
}

TEST_F(RunTest, ResultsDoNotDependOnThreadsSlicesAndLoad) {
  auto spec = Spec();
  spec.layers[0].dropout = 0.2;
  spec.standardize = engine::Standardize::kFitted;
  spec.optimizer.schedule.kind = engine::ScheduleKind::kReduceOnPlateau;
  spec.optimizer.schedule.patience = 2;
  spec.optimizer.schedule.warmup_steps = 5;
  const auto run_it = [&](Session* session) {
    auto args = Epochs(60, 7);
    args.config.validation_split = 0.2;
    args.config.early_stopping = records::EarlyStopping{1000, 0, true};
    return Start(session, std::move(args));
  };
  std::vector<double> alone;
  {
    exec::ComputePool single(1);
    environment.pool = &single;
    auto session = SessionOf(spec, "single/m");  // a project keeps its share of a pool
    WaitFor(run_it(session.get()));
    ASSERT_TRUE(Step(session.get()).ok());
    alone = Values(*Read(session.get()));
    environment.pool = &pool;
  }
  exec::ComputePool many(4);
  environment.pool = &many;
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<RunPtr> runs;
  for (int i = 0; i < 8; ++i) {
    sessions.push_back(SessionOf(spec, "many/m"));
    runs.push_back(run_it(sessions.back().get()));
  }
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) {
      for (const auto& session : sessions) Read(session.get());
    }
  });
  for (const RunPtr& run : runs) WaitFor(run);
  done = true;
  reader.join();
  for (const auto& session : sessions) {
    ASSERT_TRUE(Step(session.get()).ok());
    EXPECT_EQ(Values(*Read(session.get())), alone);
  }
  environment.pool = &pool;
}

// Gives its rows when the test says so, as datasets do when a thread has read them.
class HeldRows final : public RowSource {
 public:
  void UseAgain(records::Uid dataset, const records::ModelInfo& model, const engine::Network&,
                Done done) override {
    EXPECT_EQ(dataset, 5u);
    EXPECT_EQ(model.id, "m");
    done_ = std::move(done);
  }
  void Give(absl::StatusOr<RowsInUse> rows) { done_(std::move(rows)); }

 private:
  Done done_;
};

class ReadingListener final : public RunListener {
 public:
  explicit ReadingListener(Session* session) : session_(session) {}
  void OnRunEvent() override {
    session_->Read();  // needs the session's lock
    ++events;
  }
  std::atomic<int> events{0};

 private:
  Session* const session_;
};

class ResumedRunTest : public RunTest {
 protected:
  ResumedRunTest() {
    environment.row_source = &rows;
    ResumeArgs args;
    args.run = run;
    args.training_dataset = 5;
    session->ResumeRun(std::move(args));
  }
  static records::RunConfig Config() {
    records::RunConfig config;
    config.iterations = 10;
    config.batch_size = 20;
    return config;
  }

  HeldRows rows;
  std::shared_ptr<Session> session = SessionOf(XorNetwork()->spec());
  RunPtr run =
      std::make_shared<session::Run>("models/m/runs/3", 3, Config(), records::RequestKey{}, true);
};

TEST_F(ResumedRunTest, ContinuesWhenItsRowsAreReadAndCallsListenersWithoutTheLock) {
  const auto listener = std::make_shared<ReadingListener>(session.get());
  run->log().Listen(listener);
  EXPECT_EQ(session->activity().active_run, run->name());
  EXPECT_TRUE(IsRunUnderWay(Step(session.get()).status()));
  rows.Give(RowsInUse{XorRows(20), 5});
  const records::RunSummary summary = WaitFor(run);
  EXPECT_EQ(summary.stop_reason, records::StopReason::kCompleted);
  EXPECT_EQ(summary.iterations, 10);
  EXPECT_GE(listener->events, 3) << "the start, a report and the summary";
  EXPECT_EQ(Read(session.get())->step, 10);
}

TEST_F(ResumedRunTest, EndsIfItsRowsAreLost) {
  rows.Give(absl::DataLossError("damaged"));
  const records::RunSummary summary = WaitFor(run);
  EXPECT_EQ(summary.stop_reason, records::StopReason::kDataLost);
  EXPECT_EQ(summary.message, "damaged");
  EXPECT_TRUE(Step(session.get()).ok());
}

}  // namespace
}  // namespace backprop::session
