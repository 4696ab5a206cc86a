#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/records/frame.h"
#include "server/records/model_records.h"
#include "server/records/records.pb.h"
#include "server/records/tables.h"
#include "tests/session/durable_fixture.h"

namespace backprop::session {
namespace {

using DurabilityTest = DurableFixture;

TEST_F(DurabilityTest, AModelComesBackAsItWas) {
  for (const std::string id : {"small", "large"}) {
    SCOPED_TRACE(id);
    auto session = *Make(id);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(Step(session.get()).ok());
    const auto before = Read(session.get());
    const absl::Time created = session->create_time();
    session = nullptr;
    Restart();
    EXPECT_EQ(server->opened->models, id == "small" ? 1 : 2);
    session = *Find(id);
    const auto after = Read(session.get());
    EXPECT_EQ(Values(*after), Values(*before));
    EXPECT_EQ(after->step, 20);
    EXPECT_EQ(after->optimizer_step, 20);
    EXPECT_EQ(session->create_time(), created);
    // It also continues as it would have without the restart.
    ASSERT_TRUE(Step(session.get()).ok());
    EXPECT_EQ(Read(session.get())->step, 21);
  }
}

// Restarts between any two steps change nothing, even if the log of steps is truncated.
TEST_F(DurabilityTest, StepsWithRestartsEqualStepsWithout) {
  auto steady = *Make("large");
  const auto alone = SessionOf(Spec("large"));
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(Step(alone.get()).ok());
    ASSERT_TRUE(Step(Find("large")->get()).ok());
    if (i % 37 == 0) {
      steady = nullptr;
      Restart();
    }
  }
  EXPECT_EQ(Values(*Read(Find("large")->get())), Values(*Read(alone.get())));
}

TEST_F(DurabilityTest, StepsOfAnotherInstructionSetAreRepeatedWithAWarning) {
  ASSERT_TRUE(Step(Make("large")->get()).ok());
  std::string key, value;
  ASSERT_TRUE(store
                  .Scan(records::kLog, "", "",
                        [&](absl::string_view k, absl::string_view v) {
                          key = std::string(k);
                          value = std::string(v);
                          return true;
                        })
                  .ok());
  records::v1::LoggedStep logged;
  ASSERT_TRUE(records::Open(value, "", &logged).ok());
  logged.set_instruction_set("z80");
  store::WriteBatch batch;
  batch.Put(records::kLog, key, records::Seal(logged));
  store.Commit(std::move(batch), store::Durability::kNone, nullptr, [](const absl::Status&) {});
  store::WaitForAnswers(&store);
  Restart();
  std::string warning;
  server->environment.on_warning = [&](const std::string& line) { warning = line; };
  EXPECT_EQ(Read(Find("large")->get())->step, 1);
  EXPECT_NE(warning.find("models/large"), std::string::npos) << warning;
  EXPECT_NE(warning.find("z80"), std::string::npos) << warning;
}

TEST_F(DurabilityTest, ARetryAfterARestartGetsTheFirstAnswer) {
  for (const std::string id : {"small", "large"}) {
    SCOPED_TRACE(id);
    ASSERT_TRUE(Make(id).ok());
    const auto first = Step(Find(id)->get(), {"r1", 7});
    ASSERT_TRUE(first.ok());
    ASSERT_TRUE(Step(Find(id)->get(), {"r2", 8}).ok());
    Restart();
    const auto again = Step(Find(id)->get(), {"r1", 7});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->step, first->step);
    EXPECT_EQ(again->result.loss.sum, first->result.loss.sum);
    EXPECT_EQ(again->result.gradient_norm, first->result.gradient_norm);
    EXPECT_EQ(Read(Find(id)->get())->step, 2);
    EXPECT_EQ(Step(Find(id)->get(), {"r1", 9}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Starts steps without waiting for their results.
struct SentStep {
  Waiter<records::StepOutcome> waiter;
  void Send(Session* session, records::RequestKey key) {
    Session::StepArgs args;
    args.work = engine::XorData(20, 1, engine::DataType::kFloat32);
    args.key = std::move(key);
    args.cancelled = [] { return false; };
    session->Step(std::move(args), waiter.callback());
  }
};

TEST_F(DurabilityTest, AChangeIsAnsweredWhenItIsStored) {
  const auto session = *Make("m");
  held.Hold();
  SentStep first, retry, second;
  first.Send(session.get(), {"r1", 1});
  retry.Send(session.get(), {"r1", 1});
  second.Send(session.get(), {"r2", 1});
  EXPECT_FALSE(first.waiter.done() || retry.waiter.done() || second.waiter.done());
  EXPECT_EQ(held.waiting(), 3u);
  held.Release(absl::OkStatus());
  EXPECT_EQ(first.waiter.Wait()->step, 1);
  EXPECT_EQ(retry.waiter.Wait()->step, 1);
  EXPECT_EQ(second.waiter.Wait()->step, 2);
}

TEST_F(DurabilityTest, WhatTheStoreRefusesWasNeverDone) {
  auto session = *Make("m");
  ASSERT_TRUE(Step(session.get(), {"r1", 1}).ok());
  const auto before = Values(*Read(session.get()));
  held.Hold();
  SentStep second, third;
  second.Send(session.get(), {"r2", 1});
  third.Send(session.get(), {"r3", 1});
  held.Release(absl::ResourceExhaustedError("the disk is full"));
  EXPECT_EQ(second.waiter.Wait().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(third.waiter.Wait().ok());
  EXPECT_EQ(base::ReasonOf(Step(session.get(), {"r4", 1}).status())->reason, "NOT_STORED")
      << "whoever still holds the session";
  // The next caller gets the stored model, and retries count as new requests.
  session = *Find("m");
  EXPECT_EQ(Values(*Read(session.get())), before);
  EXPECT_EQ(Step(session.get(), {"r1", 1})->step, 1);
  EXPECT_EQ(Step(session.get(), {"r3", 1})->step, 2);
  EXPECT_EQ(Step(session.get(), {"r2", 1})->step, 3);
}

// This happens without a request for the model.
TEST_F(DurabilityTest, AParkedRunGoesOnWhenTheStoreWorksAgain) {
  limits.mark_interval = absl::ZeroDuration();
  Restart();
  auto args = TrainArgsFor(200'000);
  args.resumes = true;
  auto session = *Make("m");
  const RunPtr parked = Start(session.get(), std::move(args));
  held.Hold();
  while (held.waiting() == 0) std::this_thread::yield();  // a progress mark
  held.Release(absl::ResourceExhaustedError("the disk is full"));
  Waiter<int> told;
  parked->OnFinish(
      [done = told.callback()](const absl::StatusOr<records::RunSummary>& end) mutable {
        if (end.ok()) return done(1);
        done(end.status());
      });
  EXPECT_EQ(base::ReasonOf(told.Wait().status())->reason, "NOT_STORED");
  session = nullptr;
  int64_t resumed = 0;
  for (int i = 0; i < 1000 && resumed == 0; ++i) resumed = server->registry.ResumeParked();
  EXPECT_EQ(resumed, 1);
  EXPECT_EQ(server->environment.runs_under_way.load(), 1);
  EXPECT_EQ(server->registry.ResumeParked(), 0);
  EXPECT_EQ(WaitFor(*(*Find("m"))->FindRun(0)).iterations, 200'000);
  // It has the same bits as a run that was not parked.
  const auto alone = SessionOf(Spec("m"));
  WaitFor(Start(alone.get(), TrainArgsFor(200'000)));
  EXPECT_EQ(Values(*Read(Find("m")->get())), Values(*Read(alone.get())));
}

TEST_F(DurabilityTest, AModelThatCannotBeStoredIsNotCreatedAndOneThatCannotBeDeletedStays) {
  held.Hold();
  Waiter<std::shared_ptr<Session>> made;
  std::thread maker([&] { made.callback()(Make("m", {"c1", 1})); });
  while (held.waiting() == 0) std::this_thread::yield();
  held.Release(absl::UnavailableError("no disk"));
  EXPECT_EQ(made.Wait().status().code(), absl::StatusCode::kUnavailable);
  maker.join();
  EXPECT_EQ(Find("m").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(server->registry.size(), 0);
  const auto retried = Make("m", {"c1", 1});
  ASSERT_TRUE(retried.ok()) << "a retry is the first one that does it: " << retried.status();
  held.Hold();
  absl::Status deleted;
  std::thread deleter([&] { deleted = DeleteModel("m"); });
  while (held.waiting() == 0) std::this_thread::yield();
  EXPECT_EQ(Find("m").status().code(), absl::StatusCode::kNotFound) << "while it is under way";
  held.Release(absl::UnavailableError("no disk"));
  deleter.join();
  EXPECT_EQ(deleted.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Find("m").ok());
  EXPECT_EQ(server->registry.size(), 1);
}

// The window holds the last 64 responses, on disk and in memory, also after it has wrapped around.
TEST_F(DurabilityTest, TheWindowIsTheSameAfterARestart) {
  ASSERT_TRUE(Make("m").ok());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Step(Find("m")->get(), {"r" + std::to_string(i), 1}).ok());
  }
  Restart();
  EXPECT_EQ(Step(Find("m")->get(), {"r36", 1})->step, 37);  // the oldest of 64
  EXPECT_EQ(Step(Find("m")->get(), {"r99", 1})->step, 100);
  EXPECT_EQ(Step(Find("m")->get(), {"r35", 1}, 35).status().code(), absl::StatusCode::kAborted)
      << "forgotten, but its expected step refuses it";
  EXPECT_EQ(Read(Find("m")->get())->step, 100);
}

TEST_F(DurabilityTest, CreationAndDeletionAreAnsweredOnceAlsoAfterARestart) {
  const auto made = Make("", {"c1", 1});
  ASSERT_TRUE(made.ok());
  const std::string id = (*made)->info().id;
  Restart();
  EXPECT_EQ((*Make("", {"c1", 1}))->info().id, id);
  EXPECT_EQ(Make(id).status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(DeleteModel(id, {"d1", 2}).ok());
  Restart();
  EXPECT_EQ(server->opened->models, 0);
  EXPECT_TRUE(DeleteModel(id, {"d1", 2}).ok());
  EXPECT_EQ(DeleteModel(id).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Find(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(Make("", {"c1", 1}).status())->reason, "MODEL_DELETED");
}

// A deletion that was not stored is a new request when it is retried. Otherwise the retry would
// succeed, and the model would still be there.
TEST_F(DurabilityTest, ARetryOfADeletionThatTheStoreRefusedDeletes) {
  ASSERT_TRUE(Make("m").ok());
  held.Hold();
  absl::Status deleted;
  std::thread deleter([&] { deleted = DeleteModel("m", {"d1", 1}); });
  while (held.waiting() == 0) std::this_thread::yield();
  held.Release(absl::UnavailableError("no disk"));
  deleter.join();
  EXPECT_EQ(deleted.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Find("m").ok());
  EXPECT_TRUE(DeleteModel("m", {"d1", 1}).ok());
  EXPECT_EQ(Find("m").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(DeleteModel("m", {"d1", 1}).ok());
}

// The store accepts the empty batch with which the retry waits.
TEST_F(DurabilityTest, ARetryThatWaitsForADeletionFailsIfTheStoreRejectsIt) {
  ASSERT_TRUE(Make("m").ok());
  held.Hold();
  Waiter<int> first, retry;
  for (Waiter<int>* waiter : {&first, &retry}) {
    server->registry.Delete("m", {"d1", 1},
                            [done = waiter->callback()](const absl::Status& status) mutable {
                              if (status.ok()) return done(1);
                              done(status);
                            });
  }
  ASSERT_EQ(held.waiting(), 2u);
  held.Release(absl::ResourceExhaustedError("the disk is full"));
  EXPECT_EQ(first.Wait().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(retry.Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Find("m").ok());
  EXPECT_TRUE(DeleteModel("m", {"d1", 1}).ok());
  EXPECT_EQ(Find("m").status().code(), absl::StatusCode::kNotFound);
}

// The first use of the id is forgotten, but still stored.
TEST_F(DurabilityTest, ARequestIdThatIsUsedAgainIsRememberedAfterARestart) {
  ASSERT_TRUE(Make("m").ok());
  ASSERT_TRUE(Step(Find("m")->get(), {"r1", 1}).ok());
  clock.Advance(base::kRequestWindowAge);
  EXPECT_EQ(Step(Find("m")->get(), {"r1", 2})->step, 2);
  Restart();
  EXPECT_EQ(Step(Find("m")->get(), {"r1", 2})->step, 2) << "a retry";
  EXPECT_EQ(Read(Find("m")->get())->step, 2);
}

// What is stored for a retry: the number of the request and, in the key, its place.
TEST_F(DurabilityTest, EachRequestIsStoredOnceInThePlaceOfItsNumber) {
  const auto stored = [&](records::RegistryRequestKind kind) {
    std::vector<uint64_t> sequences;
    const std::string prefix = records::RegistryResponsesKey(kind);
    EXPECT_TRUE(store
                    .Scan(records::kRequests, prefix, store::EndOfPrefix(prefix),
                          [&](absl::string_view key, absl::string_view value) {
                            records::v1::RegistryResponse record;
                            EXPECT_TRUE(records::Open(value, "", &record).ok());
                            EXPECT_EQ(key.substr(prefix.size() + 1),
                                      records::BigEndian(static_cast<uint16_t>(record.sequence())));
                            sequences.push_back(record.sequence());
                            return true;
                          })
                    .ok());
    std::sort(sequences.begin(), sequences.end());
    return sequences;
  };
  // Requests with one id are in one shard.
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(Make("m", {"r1", i}).ok());
    EXPECT_EQ(Make("m", {"r1", i + 1}).status().code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(Make("m", {"r1", i}).ok()) << "a retry";
    ASSERT_TRUE(DeleteModel("m", {"r1", i}).ok());
    ASSERT_TRUE(DeleteModel("m", {"r1", i}).ok()) << "a retry";
    if (i == 1) Restart();
    clock.Advance(base::kRequestWindowAge);
  }
  EXPECT_EQ(stored(records::RegistryRequestKind::kCreate), (std::vector<uint64_t>{0, 1, 2}));
  EXPECT_EQ(stored(records::RegistryRequestKind::kDelete), (std::vector<uint64_t>{0, 1, 2}));
}

TEST_F(DurabilityTest, ADeletedModelLeavesNothing) {
  auto session = *Make("large", {"c1", 1});
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Step(session.get(), {"r" + std::to_string(i), 1}).ok());
  WaitFor(*Train(session.get(), 10));
  session = nullptr;
  ASSERT_TRUE(DeleteModel("large").ok());
  for (const store::Table* table :
       {&records::kModels, &records::kStates, &records::kLog, &records::kRuns, &records::kChunks}) {
    EXPECT_TRUE(store
                    .Scan(*table, "", "",
                          [&](absl::string_view, absl::string_view) {
                            ADD_FAILURE() << "table " << table->name;
                            return true;
                          })
                    .ok());
  }
  // A new model with that name does not see the old one.
  ASSERT_TRUE(Make("large").ok());
  EXPECT_EQ(Step(Find("large")->get(), {"r1", 1})->step, 1);
}

TEST_F(DurabilityTest, ARunGoesOnAfterARestartAsIfThereHadBeenNone) {
  auto spec = Spec("m");
  ASSERT_TRUE(Make("m").ok());
  auto args = TrainArgsFor(100'000, false, {"t1", 3});
  args.data.rows = XorRows(200);
  args.config.batch_size = 16;
  args.config.shuffle = true;
  args.config.validation_split = 0.2;
  args.config.early_stopping = records::EarlyStopping{1000, 0, true};
  args.resumes = true;
  const auto copy = [&] {
    Session::TrainArgs again;
    again.config = args.config;
    again.data = args.data;
    again.resumes = true;
    again.key = args.key;
    again.cancelled = Never();
    return again;
  };
  const auto alone = SessionOf(spec);
  Waiter<RunPtr> straight;
  alone->Train(copy(), straight.callback());
  const records::RunSummary expected = WaitFor(*straight.Wait());

  int restarts = 0;
  for (;; ++restarts) {
    Waiter<RunPtr> run;
    (*Find("m"))->Train(copy(), run.callback());
    ASSERT_TRUE(run.Wait().ok()) << run.Wait().status();
    EXPECT_EQ((*run.Wait())->number(), 1) << "a repeated Train attaches";
    // The server ends some steps later.
    const int64_t seen = (*run.Wait())->log().last_sequence();
    while (!(*run.Wait())->finished() && (*run.Wait())->log().last_sequence() < seen + 3) {
      std::this_thread::yield();
    }
    if ((*run.Wait())->finished()) break;
    Restart();
  }
  EXPECT_GE(restarts, 1);
  Waiter<RunPtr> run;
  (*Find("m"))->Train(copy(), run.callback());
  const records::RunSummary summary = WaitFor(*run.Wait());
  EXPECT_EQ(summary.iterations, expected.iterations);
  EXPECT_EQ(summary.best_iteration, expected.best_iteration);
  EXPECT_EQ(summary.best_loss, expected.best_loss);
  EXPECT_EQ(summary.metrics->loss, expected.metrics->loss);
  EXPECT_EQ(summary.validation->loss, expected.validation->loss);
  EXPECT_EQ(Values(*Read(Find("m")->get())), Values(*Read(alone.get())));
  EXPECT_EQ((*run.Wait())->log().last_sequence(), (*straight.Wait())->log().last_sequence())
      << "progress numbering included";
  Restart();
  EXPECT_EQ(server->opened->runs, 0);
  EXPECT_EQ((*(*Find("m"))->FindRun(1))->log().last_sequence(),
            (*straight.Wait())->log().last_sequence())
      << "the latest run can still be watched";
}

TEST_F(DurabilityTest, ARunThatDoesNotResumeKeepsWhatItHadLearnt) {
  auto session = *Make("m");
  const auto run = Train(session.get(), kForever);
  ASSERT_TRUE(run.ok());
  while ((*run)->log().last_sequence() < 5) std::this_thread::yield();
  session = nullptr;
  Restart();
  EXPECT_EQ(server->opened->runs, 0);
  EXPECT_GT(Read(Find("m")->get())->step, 0);
  EXPECT_TRUE(Step(Find("m")->get()).ok());
}

TEST_F(DurabilityTest, ListingPagesThroughModelsThatAreNotLoaded) {
  for (int i = 0; i < 25; ++i) ASSERT_TRUE(Make("m" + std::to_string(100 + i)).ok());
  Restart();
  std::string after;
  std::vector<std::string> seen;
  for (;;) {
    const auto page = *server->registry.List("", after, 10, {});
    for (const auto& model : page) seen.push_back(model.info.id);
    if (page.size() < 10) break;
    after = seen.back();
  }
  EXPECT_EQ(seen.size(), 25u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), "m124");
}

TEST_F(DurabilityTest, AListOfAProjectEndsWithTheProject) {
  for (const char* id : {"acme/a", "acme/b", "acmf/a", "ac/z", "acme-2/a"}) {
    ASSERT_TRUE(Make(id).ok());
  }
  Restart();
  const auto page = *server->registry.List("acme/", "acme/", 10, {});
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].info.id, "acme/a");
  EXPECT_EQ(page[1].info.id, "acme/b");
  const Project& acme = *server->environment.projects.Of("acme");
  EXPECT_EQ(acme.used(Resource::kModels), 2) << "counted when the server starts";
  EXPECT_EQ(server->environment.projects.Of("ac")->used(Resource::kModels), 1);
}

TEST_F(DurabilityTest, AModelExpiresAlsoIfNobodyUsedItSinceTheRestart) {
  ASSERT_TRUE(Make("m", {}, absl::Minutes(1)).ok());
  Restart();
  clock.Advance(absl::Seconds(59));
  EXPECT_EQ(server->registry.ExpireIdle(), 0);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(server->registry.ExpireIdle(), 1);
  Restart();
  EXPECT_EQ(server->opened->models, 0);
}

// Models above the memory limit are evicted, and are complete when they are used again.
TEST_F(DurabilityTest, ModelsBeyondTheMemoryLimitLiveInTheStore) {
  const int64_t each = (*Make("first"))->MemoryBytes();
  limits.memory_limit_bytes = 20 * each;
  Restart();
  std::map<std::string, std::vector<double>> values;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 100; ++i) {
      const std::string id = "m" + std::to_string(i);
      if (round == 0) {
        ASSERT_TRUE(Make(id, {}, i % 2 == 0 ? std::optional(absl::Hours(1)) : std::nullopt).ok());
      }
      const std::string request = absl::StrCat("r", round);
      const auto outcome = Step(Find(id)->get(), {request, 1});
      ASSERT_TRUE(outcome.ok());
      EXPECT_EQ(outcome->step, round + 1);
      EXPECT_EQ(Step(Find(id)->get(), {request, 1})->step, round + 1) << "a retry";
      EXPECT_LE(server->environment.memory.models(), limits.memory_limit_bytes + 2 * each);
    }
  }
  const auto alone = SessionOf(Spec("m0"));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Step(alone.get()).ok());
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Values(*Read(Find("m" + std::to_string(i))->get())), Values(*Read(alone.get())));
  }
  EXPECT_EQ(server->registry.size(), 101);
  // Models with a ttl expire, loaded or not.
  clock.Advance(absl::Hours(2));
  // (Loading one to delete it may evict another, which then waits for the next look.)
  int64_t expired = 0;
  while (const int64_t more = server->registry.ExpireIdle()) expired += more;
  EXPECT_EQ(expired, 50);
  EXPECT_EQ(server->registry.size(), 51);
}

TEST_F(DurabilityTest, AModelInUseIsNotEvicted) {
  const auto used = *Make("used");
  auto run = Train(used.get(), kForever);
  ASSERT_TRUE(run.ok());
  // Only this limit, because the run reads others.
  server->environment.limits.memory_limit_bytes =
      server->environment.memory.work() + 4 * used->MemoryBytes();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Make("m" + std::to_string(i)).ok());
  EXPECT_EQ(*Find("used"), used);
  (*run)->RequestStop(records::StopReason::kStopped);
  WaitFor(*run);
}

// A damaged record is reported for its model only.
TEST_F(DurabilityTest, ADamagedModelIsQuarantined) {
  const records::Uid uid = (*Make("bad"))->uid();
  ASSERT_TRUE(Make("good").ok());
  auto value = **store.Get(records::kStates, records::UidKey(uid));
  for (const size_t at : {size_t{0}, size_t{3}, size_t{20}, value.size() - 1}) {
    auto damaged = value;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    store::WriteBatch batch;
    batch.Put(records::kStates, records::UidKey(uid), damaged);
    store.Commit(std::move(batch), store::Durability::kSync, nullptr, [](const auto&) {});
    Restart();
    EXPECT_EQ(Find("bad").status().code(), absl::StatusCode::kDataLoss) << at;
    EXPECT_TRUE(Find("good").ok());
    const auto page = *server->registry.List("", "", 1, {});
    ASSERT_EQ(page.size(), 1u) << "a page does not end at a damaged model";
    EXPECT_EQ(page[0].info.id, "good");
  }
  EXPECT_EQ(Make("bad").status().code(), absl::StatusCode::kDataLoss) << "it is not overwritten";
  EXPECT_TRUE(DeleteModel("bad").ok());
  EXPECT_EQ(Find("bad").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(server->registry.size(), 1);
  EXPECT_TRUE(Make("bad").ok());
}

}  // namespace
}  // namespace backprop::session
