// A record with a right checksum and any values, as a backup can bring it, is refused when it is
// decoded. The error names what the record is of, the field, what was expected and what came.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "server/base/limits.h"
#include "server/engine/network.h"
#include "server/records/checkpoint_records.h"
#include "server/records/dataset_info.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/records.pb.h"
#include "server/records/response_records.h"
#include "server/records/row_records.h"
#include "server/records/run_records.h"

namespace backprop::records {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// What is changed in a valid record, and what the error must say.
template <class Message>
struct Forgery {
  std::function<void(Message*)> forge;
  std::string says;
};

template <class Message, class Decode>
void ExpectRefused(const Message& valid, absl::string_view of, const Decode& decode,
                   const std::vector<Forgery<Message>>& forgeries) {
  ASSERT_TRUE(decode(Seal(valid)).ok()) << decode(Seal(valid)).status();
  for (const Forgery<Message>& forgery : forgeries) {
    SCOPED_TRACE(forgery.says);
    Message forged = valid;
    forgery.forge(&forged);
    const auto decoded = decode(Seal(forged));
    EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(decoded.status().message().find(of), std::string::npos) << decoded.status();
    EXPECT_NE(decoded.status().message().find(forgery.says), std::string::npos) << decoded.status();
  }
}

// Two inputs, two outputs: 6 parameters.
engine::NetworkSpec Spec(engine::Loss loss = engine::Loss::kSoftmaxCrossEntropy) {
  engine::NetworkSpec spec;
  spec.input_size = 2;
  spec.layers.resize(1);
  spec.layers[0].units = 2;
  spec.loss.kind = loss;
  return spec;
}

std::string Floats(std::vector<float> numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float)};
}

v1::Rows ValidRows() {
  v1::Rows rows;
  rows.set_rows(2);
  rows.set_inputs_per_row(2);
  rows.set_bytes_per_number(4);
  rows.set_inputs(Floats({1, 2, 3, 4}));
  rows.add_classes(0);
  rows.add_classes(1);
  rows.set_sample_weights(Floats({1, 0}));
  return rows;
}

TEST(HostileRecordsTest, RowsWhoseSizesDoNotAgree) {
  using F = Forgery<v1::Rows>;
  const std::vector<F> forgeries = {
      // The product is 2^64, which is 0 bytes if it overflows.
      F{[](v1::Rows* m) {
          m->set_rows(int64_t{1} << 60);
          m->set_inputs_per_row(4);
          m->clear_inputs();
          m->clear_classes();
          m->clear_sample_weights();
        },
        "rows.rows: expected 1 to 2147483647, got 1152921504606846976"},
      F{[](v1::Rows* m) {
          m->set_rows((int64_t{1} << 31) - 1);
          m->set_inputs_per_row((int64_t{1} << 33));
        },
        "rows.inputs_per_row: expected 1 to 268435456, got 8589934592"},
      F{[](v1::Rows* m) { m->set_rows(0); }, "rows.rows"},
      F{[](v1::Rows* m) { m->set_inputs_per_row(-2); }, "rows.inputs_per_row"},
      F{[](v1::Rows* m) { m->set_targets_per_row(kHuge); }, "rows.targets_per_row"},
      F{[](v1::Rows* m) { m->set_bytes_per_number(8); },
        "rows.bytes_per_number: expected 4, got 8"},
      F{[](v1::Rows* m) {
          m->set_inputs(Floats({1, 2, 3}));
        },
        "bytes of rows.inputs: expected 16, got 12"},
      F{[](v1::Rows* m) { m->set_inputs(m->inputs().substr(1)); }, "got 15"},
      F{[](v1::Rows* m) { m->set_targets_per_row(2); },
        "bytes of rows.targets: expected 16, got 0"},
      F{[](v1::Rows* m) { m->set_targets(Floats({1})); },
        "bytes of rows.targets: expected 0, got 4"},
      F{[](v1::Rows* m) { m->add_classes(1); }, "number of rows.classes: expected 2, got 3"},
      F{[](v1::Rows* m) {
          m->set_targets_per_row(1);
          m->set_targets(Floats({1, 1}));
        },
        "number of rows.classes: expected 0, got 2"},
      F{[](v1::Rows* m) { m->set_sample_weights(Floats({1})); },
        "bytes of rows.sample_weights: expected 8, got 4"}};
  const auto decode = [](const std::string& record) {
    return DecodeChunk(record, engine::DataType::kFloat32, "datasets/d");
  };
  ExpectRefused(ValidRows(), "datasets/d", decode, forgeries);
}

TEST(HostileRecordsTest, RowsWithValuesOfNoDataset) {
  using F = Forgery<v1::Rows>;
  const float nan = std::nanf("");
  const float infinite = std::numeric_limits<float>::infinity();
  const std::vector<F> forgeries = {
      F{[=](v1::Rows* m) {
          m->set_inputs(Floats({1, nan, 3, 4}));
        },
        "rows.inputs"},
      F{[=](v1::Rows* m) {
          m->clear_classes();
          m->set_targets_per_row(1);
          m->set_targets(Floats({1, infinite}));
        },
        "rows.targets"},
      F{[=](v1::Rows* m) {
          m->set_sample_weights(Floats({1, -1}));
        },
        "rows.sample_weights"},
      F{[=](v1::Rows* m) {
          m->set_sample_weights(Floats({1, infinite}));
        },
        "rows.sample_weights"},
      F{[](v1::Rows* m) { m->set_classes(0, -1); }, "rows.classes: expected 0 to 2147483647"}};
  const auto decode = [](const std::string& record) {
    return DecodeChunk(record, engine::DataType::kFloat32, "datasets/d");
  };
  ExpectRefused(ValidRows(), "datasets/d", decode, forgeries);
}

TEST(HostileRecordsTest, LoggedStepsThatDoNotFitTheModel) {
  using F = Forgery<v1::LoggedStep>;
  const engine::Network network(Spec());
  v1::LoggedStep valid;
  *valid.mutable_batch() = ValidRows();
  const auto decode = [&](const std::string& record) {
    return DecodeLoggedStep(record, network, "models/m");
  };
  ExpectRefused(valid, "models/m", decode,
                std::vector<F>{F{[](v1::LoggedStep* m) { m->mutable_batch()->set_classes(1, 2); },
                                 "rows.classes: expected 0 to 1, got 2"},
                               F{[](v1::LoggedStep* m) { m->mutable_batch()->clear_classes(); },
                                 "rows.targets_per_row: expected 2, got 0"},
                               F{[](v1::LoggedStep* m) {
                                   m->mutable_batch()->set_inputs_per_row(1);
                                   m->mutable_batch()->set_inputs(Floats({1, 2}));
                                 },
                                 "rows.inputs_per_row: expected 2, got 1"},
                               F{[](v1::LoggedStep* m) {
                                   m->mutable_batch()->clear_classes();
                                   m->mutable_batch()->set_targets_per_row(1);
                                   m->mutable_batch()->set_targets(Floats({0, 1}));
                                 },
                                 "rows.targets_per_row: expected 2, got 1"},
                               F{[](v1::LoggedStep* m) {
                                   m->mutable_batch()->clear_classes();
                                   m->mutable_batch()->set_targets_per_row(2);
                                   m->mutable_batch()->set_targets(Floats({0, 1, 2, -1}));
                                 },
                                 "rows.targets: expected numbers from 0 to 1, got 2"},
                               F{[](v1::LoggedStep* m) {
                                   m->set_gradients(Floats({1, 2, 3, 4, 5}));
                                 },
                                 "bytes of a logged step's gradients: expected 24, got 20"},
                               F{[](v1::LoggedStep* m) {
                                   m->set_gradients(Floats({1, 2, 3, 4, 5, std::nanf("")}));
                                 },
                                 "a logged step's gradients: expected finite numbers"},
                               F{[](v1::LoggedStep* m) { m->clear_work(); }, "rows.rows"}});
  const engine::Network regression(Spec(engine::Loss::kMeanSquaredError));
  const auto status = DecodeLoggedStep(Seal(valid), regression, "models/m").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("rows.classes: expected targets"), std::string::npos) << status;
}

TEST(HostileRecordsTest, Models) {
  using F = Forgery<v1::Model>;
  v1::Model valid;
  valid.set_uid(1);
  const auto decode = [](const std::string& record) { return DecodeModel(record, "default/m"); };
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::Model* m) { m->set_uid(0); }, "uid: expected a number that is not 0, got 0"},
          F{[](v1::Model* m) { m->set_durability(3); }, "durability: expected 0 to 2, got 3"},
          F{[](v1::Model* m) { m->set_ttl_nanos(-1); }, "ttl_nanos"},
          F{[](v1::Model* m) { m->set_created_at_step(-1); }, "created_at_step"},
          F{[](v1::Model* m) { m->set_numbers(-1); }, "numbers: expected 0 to 2147483647, got -1"},
          F{[](v1::Model* m) { m->set_numbers(kHuge); }, "numbers"},
          F{[](v1::Model* m) { m->set_value_bytes(kHuge); }, "value_bytes"}});
}

v1::State ValidState() {
  v1::State state;
  state.set_values(Floats({1, 2, 3, 4, 5, 6}));
  state.mutable_plateau()->set_learning_rate(0.1);
  return state;
}

TEST(HostileRecordsTest, States) {
  using F = Forgery<v1::State>;
  engine::NetworkSpec spec = Spec();
  spec.optimizer.schedule.kind = engine::ScheduleKind::kReduceOnPlateau;
  const engine::Network network(spec);
  const auto decode = [&](const std::string& record) {
    return DecodeState(record, network, "models/m");
  };
  ExpectRefused(
      ValidState(), "models/m", decode,
      std::vector<F>{
          F{[](v1::State* m) {
              m->set_values(Floats({1, 2, 3, 4, 5}));
            },
            "bytes of its parameters and optimiser state: expected 24, got 20"},
          F{[](v1::State* m) {
              m->set_values(Floats({1, 2, 3, 4, 5, std::nanf("")}));
            },
            "values: expected finite numbers"},
          F{[](v1::State* m) { m->set_step(-1); }, "step: expected 0 to 4611686018427387904"},
          F{[](v1::State* m) { m->set_step(kHuge); }, "got 9223372036854775807"},
          F{[](v1::State* m) { m->set_optimizer_step(kHuge); }, "optimizer_step"},
          F{[](v1::State* m) { m->mutable_plateau()->set_bad_epochs(kHuge); },
            "plateau.bad_epochs"},
          F{[](v1::State* m) { m->mutable_plateau()->set_cooldown(-1); }, "plateau.cooldown"},
          F{[](v1::State* m) { m->mutable_plateau()->set_learning_rate(kNan); },
            "plateau.learning_rate"},
          F{[](v1::State* m) { m->mutable_plateau()->set_best(kNan); }, "plateau.best"},
          // The engine would write standardised inputs to memory that it does not have.
          F{[](v1::State* m) {
              for (int i = 0; i < 2; ++i) m->add_mean(0), m->add_std(1);
            },
            "number of means: expected 0, got 2"}});
  const auto step = DecodeStepCount(Seal([] {
                                      v1::State state = ValidState();
                                      state.set_step(-5);
                                      return state;
                                    }()),
                                    "models/m");
  EXPECT_EQ(step.status().code(), absl::StatusCode::kDataLoss);
}

TEST(HostileRecordsTest, StatesWithAStandardization) {
  using F = Forgery<v1::State>;
  engine::NetworkSpec spec = Spec();
  spec.standardize = engine::Standardize::kFitted;
  const engine::Network network(spec);
  const auto decode = [&](const std::string& record) {
    return DecodeState(record, network, "models/m");
  };
  v1::State valid = ValidState();
  EXPECT_TRUE(decode(Seal(valid)).ok()) << "it is not fitted yet";
  for (int i = 0; i < 2; ++i) valid.add_mean(0), valid.add_std(1);
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::State* m) { m->add_mean(0); }, "number of means: expected 2, got 3"},
          F{[](v1::State* m) { m->clear_std(); },
            "number of standard deviations: expected 2, got 0"},
          F{[](v1::State* m) { m->clear_mean(); }, "number of means: expected 2, got 0"},
          F{[](v1::State* m) { m->set_mean(0, kNan); }, "mean: expected finite numbers, got nan"},
          F{[](v1::State* m) { m->set_std(1, 0); },
            "std: expected finite numbers above 0, got 0"}});
}

TEST(HostileRecordsTest, StatesOfAnOptimizerWithSquares) {
  engine::NetworkSpec spec = Spec();
  spec.optimizer.kind = engine::OptimizerKind::kAdam;
  const engine::Network network(spec);
  v1::State state;
  std::vector<float> values(18, -1.0f);  // exp_avg may be negative
  std::fill(values.begin() + 12, values.end(), 1.0f);
  state.set_values(Floats(values));
  EXPECT_TRUE(DecodeState(Seal(state), network, "models/m").ok());
  values.back() = -1;
  state.set_values(Floats(values));
  const auto status = DecodeState(Seal(state), network, "models/m").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("exp_avg_sq: expected numbers from 0"), std::string::npos);
}

v1::RunConfig ValidConfig() {
  v1::RunConfig config;
  config.set_iterations(10);
  config.set_batch_size(4);
  config.set_report_every(1);
  return config;
}

// A batch of 4 of 10 rows: three batches in an epoch.
v1::Epoch ValidEpoch() {
  v1::Epoch epoch;
  epoch.set_batches(2);
  epoch.set_step(2);
  epoch.set_rows(10);
  epoch.set_batch_size(4);
  return epoch;
}

TEST(HostileRecordsTest, Runs) {
  using F = Forgery<v1::Run>;
  v1::Run valid;
  valid.set_number(1);
  valid.set_resumes(true);
  *valid.mutable_config() = ValidConfig();
  *valid.mutable_config()->mutable_resumed() = ValidEpoch();
  valid.set_training_chunks(1);
  const auto config = [](auto change) {
    return [change](v1::Run* m) { change(m->mutable_config()); };
  };
  const auto epoch = [](auto change) {
    return [change](v1::Run* m) { change(m->mutable_config()->mutable_resumed()); };
  };
  const auto decode = [](const std::string& record) { return DecodeRun(record, "models/m"); };
  using C = v1::RunConfig;
  using E = v1::Epoch;
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::Run* m) { m->set_number(0); }, "a run's number"},
          F{[](v1::Run* m) { m->set_number(kHuge); }, "a run's number"},
          F{[](v1::Run* m) { m->set_start_step(-1); }, "a run's start_step"},
          F{[](v1::Run* m) { m->set_training_chunks(0); },
            "rows of a run: expected either chunks or a dataset, got none"},
          F{[](v1::Run* m) { m->set_training_dataset(7); }, "got both"},
          F{[](v1::Run* m) {
              m->set_validation_chunks(1);
              m->set_validation_dataset(7);
            },
            "validation rows of a run"},
          F{config([](C* c) { c->set_iterations(0); }), "config.iterations"},
          F{config([](C* c) { c->set_iterations(kHuge); }), "config.iterations"},
          F{config([](C* c) { c->set_batch_size(0); }), "config.batch_size"},
          F{config([](C* c) { c->set_batch_size(-1); }), "config.batch_size"},
          F{config([](C* c) { c->set_report_every(0); }), "config.report_every"},
          F{config([](C* c) { c->set_report_interval_nanos(-1); }), "report_interval_nanos"},
          F{config([](C* c) { c->set_validation_split(1); }),
            "config.validation_split: expected a number in [0, 1), got 1"},
          F{config([](C* c) { c->set_validation_split(kNan); }), "got nan"},
          F{config([](C* c) { c->set_checkpoint_every(-1); }), "config.checkpoint_every"},
          F{config([](C* c) { c->set_keep_last(-1); }), "config.keep_last"},
          F{config([](C* c) { c->set_checkpoint_every(1); }),
            "config.keep_last: expected 1 to 50, got 0"},
          F{config([](C* c) { c->set_early_stopping(true); }), "config.patience"},
          F{config([](C* c) {
              c->set_early_stopping(true);
              c->set_patience(1);
              c->set_min_delta(kNan);
            }),
            "config.min_delta"},
          F{epoch([](E* e) { e->set_batches(3); }), "epoch.batches: expected 1 to 2, got 3"},
          F{epoch([](E* e) { e->set_batches(0); }), "epoch.batches"},
          F{epoch([](E* e) { e->set_rows(kHuge); }), "epoch.rows"},
          F{epoch([](E* e) { e->set_batch_size(0); }), "epoch.batch_size"},
          F{epoch([](E* e) { e->set_validation_split(-0.5); }), "epoch.validation_split"},
          F{epoch([](E* e) { e->set_validation_split(0.999); }), "epoch.batches"},
          F{epoch([](E* e) { e->set_step(1); }), "epoch.step: expected 2 to"}});
}

v1::RunLog LogOf(int first, int newest, int64_t count) {
  v1::RunLog log;
  for (int i = 0; i < first; ++i) log.add_first()->mutable_progress();
  for (int i = 0; i < newest; ++i) log.add_newest()->mutable_progress();
  log.set_count(count);
  return log;
}

TEST(HostileRecordsTest, Marks) {
  using F = Forgery<v1::Mark>;
  v1::Mark valid;
  valid.set_phase(1);
  valid.set_iteration(5);
  *valid.mutable_log() = LogOf(2, 3, 9);
  const auto log = [](int first, int newest, int64_t count) {
    return [=](v1::Mark* m) { *m->mutable_log() = LogOf(first, newest, count); };
  };
  const auto decode = [](const std::string& record) { return DecodeMark(record, "models/m"); };
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::Mark* m) { m->set_phase(4); }, "a mark's phase: expected 1 to 3, got 4"},
          F{[](v1::Mark* m) { m->set_iteration(-1); }, "a mark's iteration"},
          F{[](v1::Mark* m) { m->set_samples(kHuge); }, "a mark's samples"},
          F{[](v1::Mark* m) { m->set_elapsed_nanos(std::numeric_limits<int64_t>::min()); },
            "a mark's elapsed_nanos"},
          F{[](v1::Mark* m) { m->set_best_iteration(6); },
            "a mark's best_iteration: expected 0 to 5, got 6"},
          F{[](v1::Mark* m) { m->set_bad_epochs(kHuge); }, "a mark's bad_epochs"},
          F{[](v1::Mark* m) { m->set_kept_iteration(-1); }, "a mark's kept_iteration"},
          F{log(2, 0, 100), "count of the log: expected 2 to 2, got 100"},
          F{log(2, 3, 4), "count of the log"}, F{log(2, 3, kHuge), "count of the log"},
          F{log(3, 0, 3), "first events of the log: expected 0 to 2, got 3"},
          F{log(2, 129, 131), "newest events of the log: expected 0 to 128, got 129"},
          F{[](v1::Mark* m) { m->mutable_log()->mutable_first(0)->Clear(); },
            "an event of the log: expected one of a known kind"},
          F{[](v1::Mark* m) {
              m->mutable_log()->mutable_newest(0)->mutable_summary()->set_stop_reason(8);
            },
            "an event's stop_reason: expected 0 to 7, got 8"}});
}

TEST(HostileRecordsTest, FinishedRuns) {
  using F = Forgery<v1::FinishedRun>;
  v1::FinishedRun valid;
  valid.set_number(1);
  *valid.mutable_config() = ValidConfig();
  *valid.mutable_log() = LogOf(2, 3, 9);
  valid.mutable_log()->mutable_newest(2)->mutable_summary();
  *valid.mutable_unfinished() = ValidEpoch();
  const auto decode = [](const std::string& record) {
    return DecodeFinishedRun(record, "models/m");
  };
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::FinishedRun* m) { m->set_number(-1); }, "a run's number"},
          F{[](v1::FinishedRun* m) {
              m->mutable_config()->set_iterations(std::numeric_limits<int64_t>::min());
            },
            "config.iterations"},
          F{[](v1::FinishedRun* m) { m->mutable_log()->clear_newest(); },
            "a finished run: expected a summary, got none"},
          F{[](v1::FinishedRun* m) { m->mutable_log()->mutable_newest(2)->mutable_progress(); },
            "a finished run: expected a summary"},
          F{[](v1::FinishedRun* m) { m->mutable_log()->set_count(0); }, "count of the log"},
          F{[](v1::FinishedRun* m) {
              m->mutable_log()->set_count(std::numeric_limits<int64_t>::min());
            },
            "count of the log: expected 1 to 4611686018427387904, got -9223372036854775808"},
          F{[](v1::FinishedRun* m) { m->mutable_log()->set_count(4); }, "count of the log"},
          F{[](v1::FinishedRun* m) { m->mutable_log()->set_count(kHuge); }, "count of the log"},
          // A run that continues this epoch would have fewer than no iterations left.
          F{[](v1::FinishedRun* m) { m->mutable_unfinished()->set_batches(int64_t{1} << 60); },
            "epoch.batches: expected 1 to 2"}});
}

TEST(HostileRecordsTest, Checkpoints) {
  using F = Forgery<v1::Checkpoint>;
  v1::Checkpoint valid;
  valid.set_id("run-1-best");
  valid.set_state_hash(std::string(16, 'h'));
  const auto decode = [](const std::string& record) {
    return DecodeCheckpoint(record, "models/m");
  };
  ExpectRefused(
      valid, "models/m", decode,
      std::vector<F>{
          F{[](v1::Checkpoint* m) { m->set_id("a\n"); },
            "a checkpoint's id: expected 1 to 63 of [a-z0-9_-], got \"a\\n\""},
          F{[](v1::Checkpoint* m) { m->set_state_hash("short"); },
            "bytes of a checkpoint's state_hash: expected 16, got 5"},
          F{[](v1::Checkpoint* m) { m->set_size_bytes(kHuge); }, "a checkpoint's size_bytes"},
          F{[](v1::Checkpoint* m) { m->set_step(-1); }, "a checkpoint's step"},
          F{[](v1::Checkpoint* m) { m->set_run(-1); }, "a checkpoint's run"},
          F{[](v1::Checkpoint* m) { m->set_iteration(-1); }, "a checkpoint's iteration"}});
}

TEST(HostileRecordsTest, Datasets) {
  using F = Forgery<v1::Dataset>;
  v1::Dataset valid;
  valid.set_uid(1);
  valid.set_ready(true);
  valid.set_rows(10);
  valid.set_inputs_per_row(2);
  valid.set_bytes_per_number(4);
  const auto decode = [](const std::string& record) { return DecodeDataset(record, "default/d"); };
  ExpectRefused(
      valid, "datasets/d", decode,
      std::vector<F>{
          F{[](v1::Dataset* m) { m->set_uid(0); }, "uid"},
          F{[](v1::Dataset* m) { m->set_rows(0); }, "rows: expected 1 to 2147483647, got 0"},
          F{[](v1::Dataset* m) { m->set_rows(-1); }, "rows"},
          F{[](v1::Dataset* m) { m->set_rows(kHuge); }, "rows"},
          F{[](v1::Dataset* m) { m->set_inputs_per_row(0); }, "inputs_per_row"},
          F{[](v1::Dataset* m) { m->set_inputs_per_row(kHuge); }, "inputs_per_row"},
          F{[](v1::Dataset* m) { m->set_targets_per_row(-1); }, "targets_per_row"},
          F{[](v1::Dataset* m) {
              m->set_rows((int64_t{1} << 31) - 1);
              m->set_inputs_per_row(int64_t{1} << 28);
            },
            "rows: expected 1 to 1048575"},
          F{[](v1::Dataset* m) { m->set_bytes_per_number(2); },
            "bytes_per_number: expected 4 or 8, got 2"},
          F{[](v1::Dataset* m) { m->set_size_bytes(-1); }, "size_bytes"},
          F{[](v1::Dataset* m) { m->set_largest_class(-1); }, "largest_class"},
          F{[](v1::Dataset* m) { m->set_least_target(kNan); }, "least_target"},
          F{[](v1::Dataset* m) { m->set_row_sum_error(kNan); }, "row_sum_error"},
          F{[](v1::Dataset* m) { m->set_weight_sum(-1); }, "weight_sum"},
          F{[](v1::Dataset* m) { m->add_feature_names("x"); },
            "number of feature_names: expected 2, got 1"}});
}

// A retry gets the model that the record names.
TEST(HostileRecordsTest, AResponseNamesNoModelOfAnotherProject) {
  using F = Forgery<v1::RegistryResponse>;
  v1::RegistryResponse valid;
  valid.mutable_key()->set_id("alpha\nr");
  valid.set_model_id("alpha/m");
  ExpectRefused(valid, "a response", DecodeRegistryResponse,
                std::vector<F>{F{[](v1::RegistryResponse* m) { m->set_model_id("beta/m"); },
                                 "model_id: expected one in the project of the request"}});
}

}  // namespace
}  // namespace backprop::records
