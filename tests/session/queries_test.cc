#include "server/session/queries.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>

#include "server/base/status.h"
#include "server/engine/grad_check.h"
#include "server/engine/step.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

using absl::StatusCode;
using SessionPtr = std::shared_ptr<Session>;

// A pool of one thread, which the sessions created meanwhile use.
class OnePool {
 public:
  explicit OnePool(Environment* environment) : environment_(environment) {
    environment->pool = &pool;
  }
  ~OnePool() {
    Release();
    environment_->pool = former_;
  }
  // Blocks the thread until Release.
  void Hold() {
    pool.Post(exec::Priority::kInteractive, [this] {
      held_.Notify();
      go_.WaitForNotification();
    });
    held_.WaitForNotification();
  }
  void Release() { go_.Notify(); }

 private:
  Environment* const environment_;
  exec::ComputePool* const former_ = environment_->pool;
  Notification held_, go_;

 public:
  exec::ComputePool pool{1};  // last: its destructor waits for the thread
};

class QueriesTest : public SessionFixture {
 protected:
  // d 4, k 3. At most 32 units a layer: the bits do not depend on the number of rows in a pass.
  static engine::NetworkSpec SmallSpec() {
    engine::NetworkSpec spec;
    spec.input_size = 4;
    spec.layers = {{16, engine::Activation::kTanh}, {3}};
    spec.loss.kind = engine::Loss::kSoftmaxCrossEntropy;
    spec.loss.class_weights = {1, 2, 0.5};
    spec.optimizer.learning_rate = 0.1;
    return spec;
  }
  // A forward pass over kManyRows rows takes several slices.
  static engine::NetworkSpec LargeSpec() {
    engine::NetworkSpec spec = SmallSpec();
    spec.input_size = 784;
    spec.layers = {{256, engine::Activation::kRelu}, {128, engine::Activation::kRelu}, {3}};
    return spec;
  }
  static constexpr int64_t kManyRows = 4'000;

  static engine::Dataset RowsFor(const engine::NetworkSpec& spec, int64_t rows) {
    engine::Dataset data;
    data.rows = rows;
    data.inputs_per_row = spec.input_size;
    data.inputs = engine::Buffer(spec.data_type, rows * spec.input_size);
    for (int64_t i = 0; i < data.inputs.count(); ++i) {
      data.inputs.Set(i, static_cast<double>(i * 37 % 101) / 50 - 1);
    }
    for (int64_t i = 0; i < rows; ++i) data.classes.push_back(static_cast<int32_t>(i * 7 % 3));
    return data;
  }

  // Each asks with rows of the model and returns the result, possibly after it has waited.
  static absl::StatusOr<Prediction> AskPredict(const SessionPtr& model, int64_t rows,
                                               IsCancelled cancelled = Never(),
                                               int32_t* classes = nullptr) {
    PredictArgs args;
    args.rows = RowsFor(model->network().spec(), rows);
    args.logits = true;
    args.probabilities = true;
    args.classes = classes;
    args.cancelled = std::move(cancelled);
    Waiter<Prediction> waiter;
    Predict(model, std::move(args), waiter.callback());
    return std::move(waiter.Wait());
  }
  static absl::StatusOr<Evaluation> AskEvaluate(const SessionPtr& model, int64_t rows,
                                                IsCancelled cancelled = Never(),
                                                int64_t top_k = 2) {
    EvaluateArgs args;
    args.rows = std::make_shared<engine::Dataset>(RowsFor(model->network().spec(), rows));
    args.top_k = top_k;
    args.field = "data";
    args.cancelled = std::move(cancelled);
    Waiter<Evaluation> waiter;
    Evaluate(model, std::move(args), waiter.callback());
    return std::move(waiter.Wait());
  }
  static absl::StatusOr<Gradients> AskGradients(const SessionPtr& model, int64_t rows,
                                                IsCancelled cancelled = Never()) {
    Waiter<Gradients> waiter;
    ComputeGradients(model,
                     {RowsFor(model->network().spec(), rows), "batch.inputs", std::move(cancelled)},
                     waiter.callback());
    return std::move(waiter.Wait());
  }
  static absl::StatusOr<GradCheckOutcome> AskGradCheck(const SessionPtr& model, int64_t rows,
                                                       IsCancelled cancelled = Never()) {
    Waiter<GradCheckOutcome> waiter;
    GradCheck(model,
              {RowsFor(model->network().spec(), rows), {}, "batch.inputs", std::move(cancelled)},
              waiter.callback());
    return std::move(waiter.Wait());
  }

  struct Query {
    const char* name;
    std::function<absl::Status(const SessionPtr&, int64_t rows, IsCancelled)> ask;
    // Bytes that count against max_workspace_bytes; null: none.
    std::function<int64_t(const engine::Network&, int64_t rows)> bytes;
    const char* field;  // named by the error about these bytes
  };
  static std::vector<Query> AllQueries() {
    return {{"Predict",
             [](const SessionPtr& model, int64_t rows, IsCancelled cancelled) {
               return AskPredict(model, rows, std::move(cancelled)).status();
             },
             nullptr, ""},
            {"Evaluate",
             [](const SessionPtr& model, int64_t rows, IsCancelled cancelled) {
               return AskEvaluate(model, rows, std::move(cancelled)).status();
             },
             engine::MetricsCollector::BytesNeeded, "data"},
            {"Evaluate, summary only",
             [](const SessionPtr& model, int64_t rows, IsCancelled cancelled) {
               return AskEvaluate(model, rows, std::move(cancelled), 0).status();
             },
             nullptr, ""},
            {"ComputeGradients",
             [](const SessionPtr& model, int64_t rows, IsCancelled cancelled) {
               return AskGradients(model, rows, std::move(cancelled)).status();
             },
             [](const engine::Network& network, int64_t rows) {
               return engine::Workspace::BytesNeeded(network, rows,
                                                     engine::PassKind::kForwardBackward);
             },
             "batch.inputs"},
            {"GradCheck",
             [](const SessionPtr& model, int64_t rows, IsCancelled cancelled) {
               return AskGradCheck(model, rows, std::move(cancelled)).status();
             },
             engine::GradChecker::BytesNeeded, "batch.inputs"}};
  }
};

// A model after a step, in a registry.
class QueriedModelTest : public QueriesTest {
 protected:
  QueriedModelTest() {
    Registry::CreateArgs args;
    args.info.id = "m";
    args.network = std::make_shared<engine::Network>(SmallSpec());
    args.initial = [network = args.network] { return engine::InitialState(*network); };
    Waiter<SessionPtr> waiter;
    registry.Create(std::move(args), waiter.callback());
    model = *waiter.Wait();
    Session::StepArgs step;
    step.work = RowsFor(SmallSpec(), 20);
    step.cancelled = Never();
    Waiter<records::StepOutcome> stepped;
    model->Step(std::move(step), stepped.callback());
    EXPECT_TRUE(stepped.Wait().ok());
    state = model->Read();
  }
  const engine::Network& network() const { return model->network(); }

  SessionPtr model;
  Session::StatePtr state;
  engine::Workspace workspace;
};

bool SameBytes(const engine::Buffer& a, const engine::Buffer& b) {
  return a.size_bytes() == b.size_bytes() && std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

// 5,000 rows are more than one piece.
TEST_F(QueriedModelTest, APredictionEqualsTheEngines) {
  const engine::Dataset rows = RowsFor(SmallSpec(), 5'000);
  ASSERT_GT(rows.rows, engine::Workspace::RowsAtOnce(network()));
  engine::Buffer logits(rows.inputs.type(), rows.rows * 3), probabilities = logits.Clone();
  std::vector<int32_t> classes(5'000), got(5'000, -1);
  engine::Predict(network(), *state, rows.All(), &workspace,
                  {logits.bytes(), probabilities.bytes(), classes.data()});
  const auto prediction = AskPredict(model, rows.rows, Never(), got.data());
  ASSERT_TRUE(prediction.ok()) << prediction.status();
  EXPECT_TRUE(SameBytes(prediction->logits, logits));
  EXPECT_TRUE(SameBytes(prediction->probabilities, probabilities));
  EXPECT_EQ(got, classes);
  EXPECT_EQ(prediction->rows, 5'000);
  EXPECT_EQ(prediction->step, 1);
}

TEST_F(QueriedModelTest, APredictionHasOnlyWhatIsWanted) {
  PredictArgs args;
  args.rows = RowsFor(SmallSpec(), 3);
  std::vector<int32_t> classes(4, -1);
  args.classes = classes.data();
  args.cancelled = Never();
  Waiter<Prediction> waiter;
  Predict(model, std::move(args), waiter.callback());
  ASSERT_TRUE(waiter.Wait().ok());
  EXPECT_EQ(waiter.Wait()->logits.count(), 0);
  EXPECT_EQ(waiter.Wait()->probabilities.count(), 0);
  EXPECT_GE(classes[2], 0);
  EXPECT_EQ(classes[3], -1) << "nothing is written after the last row";
}

TEST_F(QueriedModelTest, AnEvaluationEqualsTheEngines) {
  const engine::Dataset rows = RowsFor(SmallSpec(), 5'000);
  const engine::LossResult sum = engine::Evaluate(network(), *state, rows.All(), &workspace);
  engine::MetricsCollector collector(network(), rows, 2);
  collector.Add(0, rows.rows, engine::OutputBytes(network(), rows.rows, &workspace));
  while (collector.AdvanceCurves()) {
  }
  const engine::ClassificationMetrics expected = collector.Classification();
  const auto all = AskEvaluate(model, rows.rows);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_NEAR(all->metrics.loss, sum.mean(), 1e-12);
  EXPECT_EQ(all->metrics.accuracy, sum.accuracy());
  EXPECT_EQ(all->metrics.rows, 5'000);
  EXPECT_EQ(all->step, 1);
  EXPECT_FALSE(all->regression.has_value());
  ASSERT_TRUE(all->classification.has_value());
  EXPECT_EQ(all->classification->confusion, expected.confusion);
  EXPECT_EQ(all->classification->top_k_accuracy, expected.top_k_accuracy);
  EXPECT_EQ(all->classification->roc_auc, expected.roc_auc);
  EXPECT_EQ(all->classification->log_loss, expected.log_loss);
  ASSERT_EQ(all->classification->classes.size(), 3U);
  EXPECT_TRUE(all->classification->classes[2].roc_auc.has_value()) << "every curve is computed";

  const auto summary = AskEvaluate(model, rows.rows, Never(), 0);
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->metrics.loss, all->metrics.loss);
  EXPECT_FALSE(summary->classification.has_value());
}

TEST_F(QueriesTest, AnEvaluationOfARegressionHasItsMetrics) {
  engine::NetworkSpec spec = SmallSpec();
  spec.loss = {};
  spec.loss.kind = engine::Loss::kMeanAbsoluteError;
  const auto model = SessionOf(spec);
  engine::Dataset rows = RowsFor(spec, 10);
  rows.classes.clear();
  rows.targets_per_row = 3;
  rows.targets = engine::Buffer(spec.data_type, 30);
  engine::MetricsCollector collector(model->network(), rows, 1);
  engine::Workspace workspace;
  engine::Evaluate(model->network(), *model->Read(), rows.All(), &workspace);
  collector.Add(0, 10, engine::OutputBytes(model->network(), 10, &workspace));
  const double expected = collector.Regression().mean_squared_error;
  Waiter<Evaluation> waiter;
  Evaluate(model, {std::make_shared<engine::Dataset>(std::move(rows)), 1, "data", Never()},
           waiter.callback());
  const auto& evaluation = waiter.Wait();
  ASSERT_TRUE(evaluation.ok());
  EXPECT_FALSE(evaluation->metrics.accuracy.has_value());
  EXPECT_FALSE(evaluation->classification.has_value());
  ASSERT_TRUE(evaluation->regression.has_value());
  EXPECT_EQ(evaluation->regression->mean_squared_error, expected);
}

// Otherwise a caller that deletes the dataset when it has the result would be refused.
TEST_F(QueriesTest, AnEvaluationReleasesItsRowsBeforeItIsDone) {
  const auto model = SessionOf(SmallSpec());
  for (const bool cancelled : {false, true}) {
    auto rows = std::make_shared<const engine::Dataset>(RowsFor(SmallSpec(), 10));
    const std::weak_ptr<const engine::Dataset> watched = rows;
    Notification done;
    Evaluate(model, {std::move(rows), 2, "data", [cancelled] { return cancelled; }},
             [&](const absl::StatusOr<Evaluation>& result) {
               EXPECT_EQ(result.ok(), !cancelled);
               EXPECT_TRUE(watched.expired());
               done.Notify();
             });
    done.WaitForNotification();
  }
}

TEST_F(QueriedModelTest, GradientsEqualTheEngines) {
  const engine::Dataset batch = RowsFor(SmallSpec(), 12);  // 4 rows of each class
  const engine::StepResult expected =
      engine::ComputeGradients(network(), *state, batch.All(), &workspace);
  const auto gradients = AskGradients(model, batch.rows);
  ASSERT_TRUE(gradients.ok()) << gradients.status();
  EXPECT_EQ(std::memcmp(gradients->values(), workspace.gradient_bytes(),
                        static_cast<size_t>(network().parameter_count()) * sizeof(float)),
            0);
  EXPECT_EQ(gradients->metrics.loss, expected.loss.mean());
  EXPECT_EQ(gradients->metrics.rows, 12);
  EXPECT_EQ(gradients->norm, expected.gradient_norm);
  EXPECT_EQ(gradients->weight, 4 * (1 + 2 + 0.5));
  EXPECT_EQ(gradients->step, 1);
}

TEST_F(QueriesTest, GradientsThatAreNotFiniteAreAnError) {
  engine::NetworkSpec spec = SmallSpec();
  spec.loss = {};
  spec.loss.kind = engine::Loss::kMeanSquaredError;
  const auto model = SessionOf(spec);
  GradientsArgs args{RowsFor(spec, 2), "batch.inputs", Never()};
  args.batch.classes.clear();
  args.batch.targets_per_row = 3;
  args.batch.targets = engine::Buffer(spec.data_type, 6);
  args.batch.targets.Set(0, std::numeric_limits<float>::max());
  Waiter<Gradients> waiter;
  ComputeGradients(model, std::move(args), waiter.callback());
  ASSERT_EQ(waiter.Wait().status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(waiter.Wait().status())->reason, "NOT_FINITE");
}

TEST_F(QueriedModelTest, AGradCheckEqualsTheEngines) {
  const engine::Dataset batch = RowsFor(SmallSpec(), 6);
  engine::GradCheckOptions options;
  options.max_entries_per_tensor = 20;
  engine::GradChecker checker(network(), *state, batch, options);
  while (checker.Advance(1)) {
  }
  const engine::GradCheckReport expected = checker.report();
  Waiter<GradCheckOutcome> waiter;
  GradCheck(model, {RowsFor(SmallSpec(), 6), options, "batch.inputs", Never()}, waiter.callback());
  const auto& outcome = waiter.Wait();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->step, 1);
  EXPECT_EQ(outcome->report.verdict, expected.verdict);
  EXPECT_TRUE(outcome->report.sampled);
  EXPECT_EQ(outcome->report.loss, expected.loss);
  EXPECT_EQ(outcome->report.max_relative_error, expected.max_relative_error);
  ASSERT_EQ(outcome->report.tensors.size(), 4U);
  for (size_t t = 0; t < 4; ++t) {
    EXPECT_EQ(outcome->report.tensors[t].checked, expected.tensors[t].checked);
    EXPECT_EQ(outcome->report.tensors[t].worst, expected.tensors[t].worst);
  }
}

TEST_F(QueriedModelTest, QueriesChangeNothing) {
  const auto before = Values(*state);
  for (const Query& query : AllQueries()) {
    EXPECT_TRUE(query.ask(model, 10, Never()).ok()) << query.name;
  }
  EXPECT_EQ(model->Read(), state);
  EXPECT_EQ(Values(*state), before);
}

TEST_F(QueriedModelTest, AModelThatWasDeletedMeanwhileStillAnswers) {
  const auto before = AskPredict(model, 10);
  ASSERT_TRUE(Delete("m").ok());
  EXPECT_FALSE(FindIn(&registry, "m").ok());
  const auto after = AskPredict(model, 10);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_TRUE(SameBytes(after->logits, before->logits));
  for (const Query& query : AllQueries()) {
    EXPECT_TRUE(query.ask(model, 10, Never()).ok()) << query.name;
  }
}

TEST_F(QueriesTest, AModelThatIsNotFittedIsAnError) {
  engine::NetworkSpec spec = SmallSpec();
  spec.standardize = engine::Standardize::kFitted;
  const auto model = SessionOf(spec);
  for (const Query& query : AllQueries()) {
    const absl::Status status = query.ask(model, 10, Never());
    ASSERT_EQ(status.code(), StatusCode::kFailedPrecondition) << query.name;
    EXPECT_EQ(base::ReasonOf(status)->reason, "NOT_FITTED") << query.name;
  }
}

TEST_F(QueriesTest, MemoryIsLimitedToTheByte) {
  const auto model = SessionOf(SmallSpec());
  constexpr int64_t kFewRows = 10;
  for (const Query& query : AllQueries()) {
    SCOPED_TRACE(query.name);
    if (!query.bytes) {
      environment.limits.max_workspace_bytes = 0;
      EXPECT_TRUE(query.ask(model, kFewRows, Never()).ok());
      continue;
    }
    environment.limits.max_workspace_bytes = query.bytes(model->network(), kFewRows);
    EXPECT_TRUE(query.ask(model, kFewRows, Never()).ok());
    --environment.limits.max_workspace_bytes;
    const absl::Status status = query.ask(model, kFewRows, Never());
    ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(base::ReasonOf(status)->metadata.at("field"), query.field);
  }
}

TEST_F(QueriesTest, ACallerThatHasGoneGetsNoResult) {
  const auto model = SessionOf(SmallSpec());
  for (const Query& query : AllQueries()) {
    EXPECT_EQ(query.ask(model, 10, [] { return true; }).code(), StatusCode::kCancelled)
        << query.name;
  }
  int32_t classes[] = {-1};
  EXPECT_FALSE(AskPredict(
                   model, 1, [] { return true; }, classes)
                   .ok());
  EXPECT_EQ(classes[0], -1) << "nothing is computed";
}

// Cancelled in the middle, it stops with the piece under way.
TEST_F(QueriesTest, CancellationIsSeenBetweenPieces) {
  const auto model = SessionOf(SmallSpec());
  for (const Query& query : AllQueries()) {
    if (query.name == std::string("ComputeGradients")) continue;  // one piece
    const auto asks = std::make_shared<std::atomic<int>>(0);
    EXPECT_EQ(query.ask(model, 20'000, [asks] { return ++*asks == 4; }).code(),
              StatusCode::kCancelled)
        << query.name;
    EXPECT_EQ(*asks, 4) << query.name;
  }
}

// The only thread of the pool is blocked: what is done without it runs on the calling thread.
TEST_F(QueriesTest, CheapOnesRunOnTheCallingThreadAndOthersOnThePool) {
  Waiter<GradCheckOutcome> check;
  Waiter<Prediction> large;
  std::atomic<bool> elsewhere{false};
  {
    OnePool one(&environment);
    const auto model = SessionOf(SmallSpec());
    one.Hold();
    const auto caller = std::this_thread::get_id();
    const auto here = [&] {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      return false;
    };
    // These would wait for ever on the pool.
    EXPECT_TRUE(AskPredict(model, 10, here).ok());
    EXPECT_TRUE(AskEvaluate(model, 10, here).ok());
    EXPECT_TRUE(AskGradients(model, 10, here).ok());

    GradCheck(model, {RowsFor(SmallSpec(), 10), {}, "batch.inputs", Never()}, check.callback());
    EXPECT_FALSE(check.done()) << "even a small check makes many passes";
    PredictArgs args;
    args.rows = RowsFor(SmallSpec(), kManyRows);
    args.logits = true;
    args.cancelled = [&elsewhere, caller] {
      elsewhere = std::this_thread::get_id() != caller;
      return false;
    };
    ASSERT_GT(engine::ForwardCost(model->network(), kManyRows), exec::ComputePool::kInlineCost);
    Predict(model, std::move(args), large.callback());
    EXPECT_FALSE(large.done());
  }
  EXPECT_TRUE(check.Wait().ok());
  EXPECT_TRUE(large.Wait().ok());
  EXPECT_TRUE(elsewhere);
}

// The pool has one thread. A task that is posted when the query begins runs before the query ends
// only if the query leaves the thread in between.
TEST_F(QueriesTest, LargeOnesLetOthersRunBetweenSlices) {
  OnePool one(&environment);
  struct Large {
    Query query;
    engine::NetworkSpec spec;
    int64_t rows;
  };
  const auto all = AllQueries();
  for (const Large& large :
       {Large{all[0], LargeSpec(), kManyRows}, Large{all[1], LargeSpec(), kManyRows},
        Large{all[2], LargeSpec(), kManyRows}, Large{all[4], SmallSpec(), 200}}) {
    std::atomic<bool> posted{false};
    std::atomic<int> asks{0}, asks_before_other{0};
    const auto model = SessionOf(large.spec);
    const absl::Status status = large.query.ask(model, large.rows, [&] {
      ++asks;
      if (!posted.exchange(true)) {
        one.pool.Post(exec::Priority::kInteractive, [&] { asks_before_other = asks.load(); });
      }
      return false;
    });
    EXPECT_TRUE(status.ok());
    Notification idle;
    one.pool.Post(exec::Priority::kBackground, [&] { idle.Notify(); });
    idle.WaitForNotification();
    EXPECT_LT(asks_before_other, asks) << large.query.name;
  }
}

}  // namespace
}  // namespace backprop::session
