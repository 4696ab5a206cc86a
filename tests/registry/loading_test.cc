// Models that have to be loaded from the store.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/records/keys.h"
#include "server/registry/registry.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

class LoadingTest : public DurableFixture {
 protected:
  // Restarts, so that no model is loaded, and makes loads of `id` wait.
  void RestartAndHold(const std::string& id) {
    const std::string key = records::UidKey((*Find(id))->uid());
    Restart();
    held.HoldReads(key);
  }
  ~LoadingTest() override { held.ReleaseReads(); }
};

TEST_F(LoadingTest, NeitherTheCallerNorOtherModelsWaitForALoad) {
  constexpr int kModels = 40;  // more than there are shards
  ASSERT_TRUE(Make("slow").ok());
  for (int i = 0; i < kModels; ++i) ASSERT_TRUE(Make("m" + std::to_string(i)).ok());
  RestartAndHold("slow");
  Waiter<registry::SessionPtr> slow;
  server->registry.Find("slow", slow.callback());
  for (int i = 0; i < kModels; ++i) {
    EXPECT_TRUE(Find("m" + std::to_string(i)).ok());
    EXPECT_TRUE(Make("new" + std::to_string(i)).ok());
  }
  EXPECT_FALSE(slow.done());
  held.ReleaseReads();
  ASSERT_TRUE(slow.Wait().ok());
  EXPECT_EQ((*slow.Wait())->info().id, "slow");
}

TEST_F(LoadingTest, CallersOfTheSameModelShareOneLoad) {
  ASSERT_TRUE(Make("m").ok());
  RestartAndHold("m");
  const int64_t before = held.states_read();
  std::vector<std::unique_ptr<Waiter<registry::SessionPtr>>> callers;
  for (int i = 0; i < 20; ++i) {
    callers.push_back(std::make_unique<Waiter<registry::SessionPtr>>());
    server->registry.Find("m", callers.back()->callback());
  }
  held.ReleaseReads();
  const registry::SessionPtr first = *callers.front()->Wait();
  for (const auto& caller : callers) EXPECT_EQ(*caller->Wait(), first);
  EXPECT_EQ(held.states_read(), before + 1);
  EXPECT_EQ(*Find("m"), first) << "it is resident";
}

TEST_F(LoadingTest, AModelThatIsNotResidentHasToBeLoaded) {
  const auto made = *Make("m");
  ASSERT_TRUE(server->registry.FindResident("m").has_value());
  EXPECT_EQ(**server->registry.FindResident("m"), made);
  Restart();
  EXPECT_FALSE(server->registry.FindResident("m").has_value());
  EXPECT_FALSE(server->registry.FindResident("none").has_value());
  EXPECT_TRUE(Find("m").ok());
  EXPECT_TRUE(server->registry.FindResident("m").has_value());
  EXPECT_EQ(Find("none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadingTest, CreationAndDeletionOfAStoredModelWaitForItsLoad) {
  ASSERT_TRUE(Make("m", {"first", 1}).ok());
  ASSERT_TRUE(Make("n").ok());
  Restart();
  EXPECT_EQ(Make("m").status().code(), absl::StatusCode::kAlreadyExists);
  Restart();
  const auto retried = Make("m", {"first", 1});
  ASSERT_TRUE(retried.ok()) << retried.status();
  EXPECT_EQ((*retried)->info().id, "m");
  Restart();
  EXPECT_TRUE(DeleteModel("m").ok());
  EXPECT_EQ(Find("m").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::IsNotFound(Make("m", {"first", 1}).status())) << "the retry of a deleted one";
  EXPECT_TRUE(Find("n").ok());
}

TEST_F(LoadingTest, AListingDescribesModelsAndLoadsNone) {
  ASSERT_TRUE(Make("large").ok());  // its steps are logged
  ASSERT_TRUE(Make("small", {}, absl::Hours(1)).ok());
  ASSERT_TRUE(Make("untrained").ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Step(Find("large")->get()).ok());
  ASSERT_TRUE(Step(Find("small")->get()).ok());
  const auto before = *server->registry.List("", 10, {});
  Restart();
  const auto list = *server->registry.List("", 10, {});
  EXPECT_EQ(server->environment.memory.models(), 0) << "nothing is loaded";
  ASSERT_EQ(list.size(), 3u);
  ASSERT_EQ(before.size(), 3u);
  const std::vector<int64_t> steps = {3, 1, 0};
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].info.id, before[i].info.id);
    EXPECT_EQ(list[i].step, steps[i]) << list[i].info.id;
    EXPECT_EQ(before[i].step, steps[i]) << list[i].info.id;
    EXPECT_EQ(list[i].create_time, before[i].create_time);
    EXPECT_EQ(list[i].durability, before[i].durability);
    EXPECT_EQ(list[i].network->parameter_count(), before[i].network->parameter_count());
    EXPECT_EQ(list[i].expire_time.has_value(), list[i].info.id == "small");
  }
  EXPECT_EQ(list[1].expire_time, clock.Now() + absl::Hours(1));
}

TEST_F(LoadingTest, ARunOfASessionLoadedWhileTheServerStopsIsParked) {
  auto made = *Make("m");
  Session::TrainArgs args = TrainArgsFor(1'000'000'000);
  args.resumes = true;
  Start(made.get(), std::move(args));
  const std::string key = records::UidKey(made->uid());
  made = nullptr;
  Restart();  // the run resumes, and is parked again
  ASSERT_EQ(server->opened->runs, 1);
  server.reset();
  EXPECT_GT(RecordsIn(&store, {&records::kRuns}), 0u);
}

}  // namespace
}  // namespace backprop::session
