// The two implementations of ModelLog.
#include "server/session/model_log.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/records/model_records.h"
#include "server/records/row_records.h"
#include "server/records/tables.h"
#include "server/session/memory_model_log.h"
#include "server/session/stored_model_log.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

class ModelLogTest : public testing::Test {
 protected:
  static constexpr records::Uid kUid = 7;

  ModelLogTest()
      : stored(std::make_unique<StoredModelLog>(&held, &limits, kUid, store::Durability::kSync)) {}
  ~ModelLogTest() override { store::WaitForAnswers(&store); }

  ModelLog::Done Count() {
    return [this](const absl::Status& status) { (status.ok() ? accepted : rejected) += 1; };
  }
  // The state after one more step with `input`.
  std::shared_ptr<engine::State> Next() {
    auto next = std::make_shared<engine::State>(*network);
    engine::Workspace workspace;
    engine::TrainStep(*network, *state, std::get<engine::Dataset>(input).All(), &workspace,
                      next.get());
    return next;
  }
  size_t Records(const store::Table& table) {
    size_t count = 0;
    EXPECT_TRUE(
        store.Scan(table, "", "", [&](absl::string_view, absl::string_view) { return ++count > 0; })
            .ok());
    return count;
  }

  const base::Limits limits;
  store::MemoryStore store;
  HeldStore held{&store};
  std::shared_ptr<const engine::Network> network =
      std::make_shared<engine::Network>(engine::XorSpec(1, engine::DataType::kFloat32));
  std::shared_ptr<engine::State> state = engine::InitialState(*network);
  const records::StepInput input = engine::XorData(1, 1, engine::DataType::kFloat32);
  std::unique_ptr<StoredModelLog> stored;
  MemoryModelLog memory{&store, kUid};
  int accepted = 0;
  int rejected = 0;
};

TEST_F(ModelLogTest, InMemoryNothingIsWaitedForOrStoredExceptCheckpoints) {
  EXPECT_FALSE(memory.stored());
  EXPECT_EQ(memory.durability(), store::Durability::kNone);
  const auto next = Next();
  std::vector<ModelLog::Done> not_waiting;
  not_waiting.push_back(memory.Create("m", {}, *state, {}, Count()));
  not_waiting.push_back(memory.Step(*next, input, {}, Count()));
  not_waiting.push_back(memory.State(*next, {}, Count()));
  not_waiting.push_back(memory.Response({}, Count()));
  for (ModelLog::Done& done : not_waiting) {
    ASSERT_TRUE(done) << "the caller calls it without its lock";
    done(absl::OkStatus());
  }
  EXPECT_EQ(accepted, 4);
  store::WriteBatch changes;
  changes.Put(records::kCheckpoints, records::UidKey(kUid) + "c", "checkpoint");
  memory.Checkpoints(std::move(changes), {}, Count());
  store::WaitForAnswers(&store);
  EXPECT_EQ(accepted, 5);
  EXPECT_EQ(Records(records::kCheckpoints), 1u);
  for (const store::Table* table : {&records::kModels, &records::kStates, &records::kLog}) {
    EXPECT_EQ(Records(*table), 0u);
  }
  ModelLog::Deletion deletion{"m"};
  deletion.has_checkpoints = true;
  EXPECT_TRUE(memory.Delete(deletion, {}, Count()));
  store::WaitForAnswers(&store);
  EXPECT_EQ(Records(records::kCheckpoints), 0u);
}

TEST_F(ModelLogTest, AStoredChangeIsAnsweredLaterAndReadAgain) {
  held.Hold();
  EXPECT_FALSE(stored->Create("m", {}, *state, {}, Count()));
  for (int i = 0; i < 3; ++i) {
    state = Next();
    const RecordedResponse response{
        {absl::StrCat("r", i), 1}, absl::UnixEpoch(), int64_t{i}, static_cast<uint64_t>(i)};
    EXPECT_FALSE(stored->Step(*state, input, response, Count()));
  }
  EXPECT_EQ(accepted, 0);
  held.Release(absl::OkStatus());
  store::WaitForAnswers(&store);
  EXPECT_EQ(accepted, 4);
  EXPECT_EQ(Records(records::kLog), 3u) << "an input is smaller than a state";

  StoredModelLog reopened(&store, &limits, kUid, store::Durability::kSync);
  std::string made_by;
  const auto read = *reopened.ReadState(*network, "models/m", &made_by);
  EXPECT_EQ(read->step, 3);
  EXPECT_TRUE(made_by.empty());
  EXPECT_EQ(engine::ToDoubles(read->values, 0, read->values.count()),
            engine::ToDoubles(state->values, 0, state->values.count()));
  const auto responses = *reopened.ReadResponses("models/m");
  ASSERT_EQ(responses.size(), 3u);
  for (size_t i = 0; i < responses.size(); ++i) EXPECT_EQ(responses[i].sequence, i);
  EXPECT_FALSE(reopened.ReadFinishedRun("models/m")->has_value());
  EXPECT_FALSE(reopened.ReadActiveRun(*network, "models/m")->has_value());

  // A whole state replaces the steps, also those that another log has written.
  EXPECT_FALSE(reopened.State(*state, {}, Count()));
  store::WaitForAnswers(&store);
  EXPECT_EQ(Records(records::kLog), 0u);
  ModelLog::Deletion deletion{"m"};
  deletion.response_places = 3;
  EXPECT_FALSE(reopened.Delete(deletion, {}, Count()));
  store::WaitForAnswers(&store);
  for (const store::Table* table :
       {&records::kModels, &records::kStates, &records::kLog, &records::kRequests}) {
    EXPECT_EQ(Records(*table), 0u);
  }
}

// Steps with right checksums that the engine could not have made.
class HostileLogTest : public ModelLogTest {
 protected:
  // What a load of the state says if the log has `count` steps with this work.
  absl::Status Load(const engine::Network& of, const engine::State& start,
                    const records::StepInput& work, int count = 1,
                    const base::Limits* allowed = nullptr) {
    store::WriteBatch batch;
    batch.DeletePrefix(records::kLog, records::UidKey(kUid));
    batch.Put(records::kStates, records::UidKey(kUid), records::EncodeState(start));
    for (int i = 1; i <= count; ++i) {
      batch.Put(records::kLog, records::LoggedStepKey(kUid, start.step + i),
                records::EncodeLoggedStep(work));
    }
    store.Commit(std::move(batch), store::Durability::kNone, nullptr, Count());
    store::WaitForAnswers(&store);
    StoredModelLog log(&store, allowed != nullptr ? allowed : &limits, kUid,
                       store::Durability::kSync);
    std::string made_by;
    return log.ReadState(of, "models/m", &made_by).status();
  }
  static void ExpectSays(const absl::Status& status, const std::string& says) {
    EXPECT_NE(status.message().find("models/m"), std::string::npos) << status;
    EXPECT_NE(status.message().find(says), std::string::npos) << status;
  }
};

TEST_F(HostileLogTest, AModelThatIsNotFittedHasNoSteps) {
  engine::NetworkSpec spec = network->spec();
  spec.standardize = engine::Standardize::kFitted;
  const engine::Network unfitted(spec);
  const absl::Status status = Load(unfitted, *engine::InitialState(unfitted), input);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  ExpectSays(status, "logged step 1: expected a standardisation that is fitted, got none");
}

TEST_F(HostileLogTest, EachStepHasAFiniteResult) {
  engine::Buffer gradients(engine::DataType::kFloat32, network->parameter_count());
  for (int64_t i = 0; i < gradients.count(); ++i) gradients.Set(i, 3e38);
  engine::NetworkSpec spec = network->spec();
  spec.optimizer.learning_rate = 1e6;
  const engine::Network fast(spec);
  const absl::Status status =
      Load(fast, *engine::InitialState(fast), records::StepInput(std::move(gradients)));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  ExpectSays(status, "logged step 1: expected a finite result");
}

TEST_F(HostileLogTest, ALoadRepeatsAtMost256Steps) {
  EXPECT_TRUE(Load(*network, *state, input, 256).ok());
  const absl::Status status = Load(*network, *state, input, 257);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  ExpectSays(status, "logged step 257: expected at most 256 logged steps, got more");
}

TEST_F(HostileLogTest, AStepTakesNoMoreMemoryThanAllowed) {
  base::Limits small;
  small.max_workspace_bytes = 1;
  const absl::Status status = Load(*network, *state, input, 1, &small);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  ExpectSays(status, "max_workspace_bytes");
}

TEST_F(HostileLogTest, CountsOfStepsDoNotOverflow) {
  state->step = std::numeric_limits<int64_t>::max();
  const absl::Status status = Load(*network, *state, input, 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  ExpectSays(status, "step: expected 0 to 4611686018427387904, got 9223372036854775807");
}

TEST_F(ModelLogTest, AfterARejectedChangeAllOthersAreRejectedButTheDeletion) {
  EXPECT_FALSE(stored->Create("m", {}, *state, {}, Count()));
  store::WaitForAnswers(&store);
  held.Hold();
  state = Next();
  EXPECT_FALSE(stored->Step(*state, input, {}, Count()));
  held.Release(absl::UnavailableError("the disk"));
  EXPECT_TRUE(stored->broken());
  EXPECT_EQ(rejected, 1);
  EXPECT_FALSE(stored->Response({}, Count()));
  EXPECT_FALSE(stored->State(*state, {}, Count()));
  store::WaitForAnswers(&store);
  EXPECT_EQ(rejected, 3);
  EXPECT_EQ(accepted, 1);
  std::string made_by;
  StoredModelLog reopened(&store, &limits, kUid, store::Durability::kSync);
  EXPECT_EQ((*reopened.ReadState(*network, "models/m", &made_by))->step, 0);
  EXPECT_FALSE(stored->Delete({"m"}, {}, Count()));
  store::WaitForAnswers(&store);
  EXPECT_EQ(accepted, 2);
  EXPECT_EQ(Records(records::kStates), 0u);
}

}  // namespace
}  // namespace backprop::session
