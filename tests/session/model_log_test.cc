// The two implementations of ModelLog.
#include "server/session/model_log.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
      : stored(std::make_unique<StoredModelLog>(&held, kUid, store::Durability::kSync)) {}
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

  StoredModelLog reopened(&store, kUid, store::Durability::kSync);
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
  StoredModelLog reopened(&store, kUid, store::Durability::kSync);
  EXPECT_EQ((*reopened.ReadState(*network, "models/m", &made_by))->step, 0);
  EXPECT_FALSE(stored->Delete({"m"}, {}, Count()));
  store::WaitForAnswers(&store);
  EXPECT_EQ(accepted, 2);
  EXPECT_EQ(Records(records::kStates), 0u);
}

}  // namespace
}  // namespace backprop::session
