#include "server/registry/registry.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

using RegistryTest = SessionFixture;
using absl::StatusCode;

TEST_F(RegistryTest, CreatesFindsAndDeletes) {
  auto session = Create("m");
  EXPECT_EQ(*FindIn(&registry, "m"), session);
  EXPECT_EQ(TryCreate("m").status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(FindIn(&registry, "other").status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Delete("m", {}).ok());
  EXPECT_EQ(FindIn(&registry, "m").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Delete("m", {}).code(), StatusCode::kNotFound);
  EXPECT_EQ(registry.size(), 0);
}

TEST_F(RegistryTest, DrawnIdsAreLongAndDiffer) {
  std::set<std::string> ids;
  for (int i = 0; i < 50; ++i) ids.insert(Create("")->info().id);
  EXPECT_EQ(ids.size(), 50U);
  EXPECT_EQ(ids.begin()->size(), 32U);
}

TEST_F(RegistryTest, ARetriedCreateGetsTheFirstModel) {
  const records::RequestKey key{"c1", 1};
  const auto first = *TryCreate("", key);
  EXPECT_EQ(*TryCreate("", key), first) << "also when the id was drawn";
  EXPECT_EQ(TryCreate("", {"c1", 2}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(registry.size(), 1);
  const auto named = *TryCreate("named", {"c2", 1});
  EXPECT_EQ(*TryCreate("named", {"c2", 1}), named);
  EXPECT_EQ(TryCreate("named", {"c3", 1}).status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(registry.size(), 2);
}

TEST_F(RegistryTest, ARetriedCreateNeverBringsADeletedModelBack) {
  const records::RequestKey key{"c1", 1};
  ASSERT_TRUE(TryCreate("m", key).ok());
  ASSERT_TRUE(Delete("m", {}).ok());
  EXPECT_EQ(TryCreate("m", key).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(registry.size(), 0);
}

TEST_F(RegistryTest, ARetriedDeleteSucceedsAndSparesANewModel) {
  Create("m");
  ASSERT_TRUE(Delete("m", {"d1", 1}).ok());
  EXPECT_TRUE(Delete("m", {"d1", 1}).ok());
  Create("m");
  EXPECT_TRUE(Delete("m", {"d1", 1}).ok());
  EXPECT_TRUE(FindIn(&registry, "m").ok());
}

TEST_F(RegistryTest, ConcurrentRetriesCreateOneModel) {
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> callers;
    std::vector<std::shared_ptr<Session>> sessions(4);
    for (size_t c = 0; c < sessions.size(); ++c) {
      callers.emplace_back([&, c] {
        sessions[c] = *TryCreate("", {"c" + std::to_string(round), 1});
      });
    }
    for (auto& caller : callers) caller.join();
    for (const auto& session : sessions) EXPECT_EQ(session, sessions[0]);
    EXPECT_EQ(registry.size(), round + 1);
  }
}

TEST_F(RegistryTest, ModelsAreLimitedAndRoomComesBack) {
  environment.limits.max_models = 2;
  Create("a");
  Create("b");
  EXPECT_EQ(TryCreate("c").status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(TryCreate("a").status().code(), StatusCode::kAlreadyExists);
  ASSERT_TRUE(Delete("a", {}).ok());
  EXPECT_TRUE(TryCreate("c").ok());
}

TEST_F(RegistryTest, TotalParametersAreLimitedAndRoomComesBack) {
  environment.limits.max_total_parameters = 2 * 42;
  Create("a");
  Create("b");
  EXPECT_EQ(TryCreate("c").status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(Delete("a", {}).ok());
  EXPECT_TRUE(TryCreate("c").ok());
}

TEST_F(RegistryTest, WithoutAStoreModelsBeyondTheMemoryLimitAreRefusedAndRoomComesBack) {
  const int64_t each = Create("a")->MemoryBytes();
  environment.limits.memory_limit_bytes = 2 * each + each / 2;
  Create("b");
  const auto refused = TryCreate("c");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), "--memory-limit"));
  EXPECT_EQ(registry.size(), 2);
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_TRUE(TryCreate("c").ok());
  EXPECT_EQ(environment.memory.models(), 2 * each);
}

TEST_F(RegistryTest, WhatModelsRememberIsCountedToABound) {
  const auto model = Create("m");
  const int64_t before = environment.memory.models();
  EXPECT_EQ(before, model->MemoryBytes());
  auto steps = [&, number = 0](int count) mutable {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(Step(model.get(), {"r" + std::to_string(number++), 1}).ok());
    }
  };
  steps(1);
  const int64_t one = environment.memory.models() - before;
  EXPECT_GT(one, int64_t{sizeof(MutationResponse)});
  constexpr int kWindow = int{base::kModelRequestWindow};
  steps(kWindow - 1);
  EXPECT_EQ(environment.memory.models() - before, kWindow * one);
  steps(100);
  EXPECT_EQ(environment.memory.models() - before, kWindow * one);
}

TEST_F(RegistryTest, LabelsAndNamesAreCounted) {
  const int64_t plain = Create("m")->MemoryBytes();
  Registry::CreateArgs args;
  args.info.id = "labelled";
  args.info.labels = {{"key", std::string(100, 'x')}};
  args.info.class_names = {std::string(200, 'y'), "z"};
  args.network = XorNetwork();
  args.initial = [network = args.network] { return engine::InitialState(*network); };
  Waiter<std::shared_ptr<Session>> waiter;
  registry.Create(std::move(args), waiter.callback());
  EXPECT_GE((*waiter.Wait())->MemoryBytes(), plain + 300);
}

TEST_F(RegistryTest, PagesHoldEveryModelOnceInOrder) {
  for (int i = 0; i < 57; ++i) Create("m" + std::to_string(100 + i));
  std::vector<std::string> seen;
  std::string after;
  for (;;) {
    const auto page = *registry.List("", after, 10, {});
    for (const auto& model : page) seen.push_back(model.info.id);
    if (page.size() < 10) break;
    after = seen.back();
  }
  EXPECT_EQ(seen.size(), 57U);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(RegistryTest, AnUnusedModelExpiresAtItsTtlNotBefore) {
  ASSERT_TRUE(TryCreate("m", {}, absl::Seconds(10)).ok());
  Create("forever");
  clock.Advance(absl::Seconds(9));
  EXPECT_EQ(registry.ExpireIdle(), 0);
  EXPECT_TRUE(FindIn(&registry, "m").ok()) << "which is a use";
  clock.Advance(absl::Seconds(9));
  EXPECT_EQ(registry.ExpireIdle(), 0);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(registry.ExpireIdle(), 1);
  EXPECT_EQ(FindIn(&registry, "m").status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(FindIn(&registry, "forever").ok());
}

TEST_F(RegistryTest, AModelWithARunDoesNotExpire) {
  const auto session = *TryCreate("m", {}, absl::Seconds(10));
  const auto run = *Train(session.get(), kForever);
  clock.Advance(absl::Hours(1));
  EXPECT_EQ(registry.ExpireIdle(), 0);
  EXPECT_FALSE(session->ExpireTime().has_value());
  run->RequestStop(records::StopReason::kStopped);
  WaitFor(run);
  EXPECT_EQ(registry.ExpireIdle(), 0) << "the end of a run is a use";
  clock.Advance(absl::Seconds(10));
  EXPECT_EQ(registry.ExpireIdle(), 1);
}

TEST_F(RegistryTest, TheSameIdInTwoProjectsIsTwoModels) {
  const auto ours = Create("acme/m");
  const auto theirs = Create("other/m");
  EXPECT_NE(ours, theirs);
  EXPECT_EQ(ours->name(), "models/m");
  EXPECT_EQ(theirs->name(), "models/m");
  ASSERT_TRUE(Step(ours.get()).ok());
  EXPECT_EQ(theirs->activity().step, 0);
  Create("acme/n");
  Create("ac/m");
  const auto ids = [&](const std::string& prefix, const std::string& after) {
    std::vector<std::string> list;
    const auto models = *registry.List(prefix, after, 10, {});
    for (const auto& model : models) list.push_back(model.info.id);
    return list;
  };
  EXPECT_EQ(ids("acme/", "acme/"), (std::vector<std::string>{"acme/m", "acme/n"}));
  EXPECT_EQ(ids("acme/", "acme/m"), (std::vector<std::string>{"acme/n"}));
  EXPECT_EQ(ids("acme/", "acme/zzz"), std::vector<std::string>());
  EXPECT_EQ(ids("ac/", "ac/"), (std::vector<std::string>{"ac/m"}));
  ASSERT_TRUE(Delete("acme/m", {}).ok());
  EXPECT_TRUE(FindIn(&registry, "other/m").ok());
  const absl::Status gone = FindIn(&registry, "acme/m").status();
  EXPECT_EQ(gone.code(), StatusCode::kNotFound);
  EXPECT_FALSE(absl::StrContains(gone.message(), "acme")) << gone;
}

TEST_F(RegistryTest, ADrawnIdBelongsToItsProject) {
  const std::string id = Create("acme/")->info().id;
  EXPECT_EQ(id.substr(0, 5), "acme/");
  EXPECT_EQ(id.size(), 5U + 32U);
}

TEST_F(RegistryTest, QuotasOfAProjectLimitItsModelsAndRoomComesBack) {
  Quota quota;
  quota.of(Resource::kModels) = 3;
  quota.of(Resource::kParameters) = 2 * 42;
  environment.projects.SetQuotas({{"acme", quota}});
  Create("acme/a");
  Create("acme/b");
  const auto refused = TryCreate("acme/c");
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), "the quota of parameters is 84"))
      << refused.status();
  EXPECT_TRUE(TryCreate("other/c").ok());
  ASSERT_TRUE(Delete("acme/a", {}).ok());
  EXPECT_TRUE(TryCreate("acme/c").ok());
  const Project& acme = *environment.projects.Of("acme");
  EXPECT_EQ(acme.used(Resource::kModels), 2);
  EXPECT_EQ(acme.used(Resource::kParameters), 84);
}

TEST_F(RegistryTest, RunsOfAProjectAreLimitedAndRoomComesBack) {
  Quota quota;
  quota.of(Resource::kRuns) = 1;
  environment.projects.SetQuotas({{"acme", quota}});
  const auto first = Create("acme/a");
  const auto second = Create("acme/b");
  const auto other = Create("other/a");
  ASSERT_TRUE(Train(first.get(), 1'000'000'000).ok());
  const auto refused = Train(second.get(), 1);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), "concurrent_runs")) << refused.status();
  EXPECT_TRUE(Train(other.get(), 1).ok());
  ASSERT_TRUE(Delete("acme/a", {}).ok());
  for (int i = 0; i < 2000 && environment.projects.Of("acme")->used(Resource::kRuns) > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(Train(second.get(), 1).ok());
}

}  // namespace
}  // namespace backprop::session
