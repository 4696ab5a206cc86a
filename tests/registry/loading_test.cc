// Models that have to be loaded from the store.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/records/keys.h"
#include "server/records/tables.h"
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
    held.HoldNextRead(records::kStates, key);
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

// The load begins before the creation and reads afterwards. Without the exclusion of claims and
// loads it would find the new records and replace the session by a second one of the same model.
TEST_F(LoadingTest, ACreationAndALoadOfTheSameIdExcludeEachOther) {
  held.HoldNextRead(records::kModels, "m");
  Waiter<registry::SessionPtr> found;
  server->registry.Find("m", found.callback());
  while (!held.reading()) std::this_thread::yield();
  Registry::CreateArgs args;
  args.info.id = "m";
  args.network = std::make_shared<engine::Network>(Spec("m"));
  args.initial = [network = args.network] { return engine::InitialState(*network); };
  Waiter<registry::SessionPtr> created;
  server->registry.Create(std::move(args), created.callback());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // enough to create and to store it
  held.ReleaseReads();
  ASSERT_TRUE(created.Wait().ok()) << created.Wait().status();
  EXPECT_EQ(found.Wait().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*Find("m"), *created.Wait());
  EXPECT_EQ(Step(created.Wait()->get())->step, 1);
  EXPECT_EQ((*Find("m"))->activity().step, 1);
}

// Others wait for a creation that fails, and then find no model, or create it.
TEST_F(LoadingTest, AClaimThatEndsWithoutAModelFreesTheId) {
  Registry::CreateArgs args;
  args.info.id = "m";
  args.network = std::make_shared<engine::Network>(Spec("m"));
  Waiter<registry::SessionPtr> found;
  Waiter<registry::SessionPtr> second;
  args.initial = [&]() -> absl::StatusOr<std::shared_ptr<engine::State>> {
    server->registry.Find("m", found.callback());
    Registry::CreateArgs again;
    again.info.id = "m";
    again.network = std::make_shared<engine::Network>(Spec("m"));
    again.initial = [network = again.network] { return engine::InitialState(*network); };
    server->registry.Create(std::move(again), second.callback());
    return absl::InvalidArgumentError("no state");
  };
  Waiter<registry::SessionPtr> first;
  server->registry.Create(std::move(args), first.callback());
  EXPECT_EQ(first.Wait().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(found.Wait().status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(second.Wait().ok()) << second.Wait().status();
  EXPECT_EQ(*Find("m"), *second.Wait());
  EXPECT_EQ(server->registry.size(), 1);
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

// Asks for the model within the answer to its deletion, which a loading thread gives: that load
// must not answer callers that came after it had read.
TEST_F(LoadingTest, ALoadDoesNotAnswerThoseWhoComeAfterIt) {
  const records::Uid uid = (*Make("damaged"))->uid();
  ASSERT_TRUE(Make("m").ok());
  store::WriteBatch damage;
  damage.Put(records::kStates, records::UidKey(uid), "damaged");
  store.Commit(std::move(damage), store::Durability::kSync, nullptr, [](const auto&) {});
  for (const char* id : {"m", "damaged"}) {
    Restart();
    Waiter<registry::SessionPtr> found;
    server->registry.Delete(id, {}, [&](const absl::Status& status) {
      EXPECT_TRUE(status.ok()) << status;
      server->registry.Find(id, found.callback());
    });
    EXPECT_EQ(found.Wait().status().code(), absl::StatusCode::kNotFound) << id;
  }
}

// As above, but the deletion need not be stored in time.
TEST_F(LoadingTest, ALoadDoesNotAnswerThoseWhoComeAfterADeletionHasBegun) {
  ASSERT_TRUE(Make("m").ok());
  Restart();
  Waiter<int> deleted;
  Waiter<registry::SessionPtr> late;
  server->registry.Find("m", [&](const registry::MaybeSession& loaded) {
    EXPECT_TRUE(loaded.ok() && *loaded != nullptr);
    server->registry.Delete("m", {}, [&](const absl::Status& status) {
      EXPECT_TRUE(status.ok()) << status;
      deleted.callback()(1);
    });
    server->registry.Find("m", late.callback());  // still within the load
  });
  EXPECT_EQ(late.Wait().status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(deleted.Wait().ok());
}

// The retry waits for a load that begins after the first attempt has deleted the model.
TEST_F(LoadingTest, ARetryOfADeletionThatWaitsForALoadGetsItsResult) {
  ASSERT_TRUE(Make("m").ok());
  Restart();
  held.HoldNextRead(records::kModels, "m");
  Waiter<int> first, retry, other;
  const auto begin = [&](Waiter<int>* waiter, const records::RequestKey& key) {
    server->registry.Delete("m", key,
                            [done = waiter->callback()](const absl::Status& status) mutable {
                              if (status.ok()) return done(1);
                              done(status);
                            });
  };
  begin(&first, {"k", 1});
  while (!held.reading()) std::this_thread::yield();
  begin(&retry, {"k", 1});
  held.ReleaseReads();
  EXPECT_TRUE(first.Wait().ok()) << first.Wait().status();
  EXPECT_TRUE(retry.Wait().ok()) << retry.Wait().status();
  begin(&other, {"other", 1});
  EXPECT_EQ(other.Wait().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadingTest, AListingDescribesModelsAndLoadsNone) {
  ASSERT_TRUE(Make("large").ok());  // its steps are logged
  ASSERT_TRUE(Make("small", {}, absl::Hours(1)).ok());
  ASSERT_TRUE(Make("untrained").ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Step(Find("large")->get()).ok());
  ASSERT_TRUE(Step(Find("small")->get()).ok());
  const auto before = *server->registry.List("", "", 10, {});
  Restart();
  const auto list = *server->registry.List("", "", 10, {});
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
