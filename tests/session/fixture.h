// Sessions without a server.
#ifndef BACKPROP_TESTS_SESSION_FIXTURE_H_
#define BACKPROP_TESTS_SESSION_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/exec/compute_pool.h"
#include "server/registry/registry.h"
#include "server/store/memory_store.h"
#include "tests/engine/cases.h"
#include "tests/notification.h"

namespace backprop::session {

using registry::Registry;
using RunPtr = std::shared_ptr<Run>;

class FakeClock final : public base::Clock {
 public:
  absl::Time Now() const override {
    const base::MutexLock lock(&mu_);
    return now_;
  }
  void Advance(absl::Duration by) {
    const base::MutexLock lock(&mu_);
    now_ += by;
  }

 private:
  mutable base::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::FromUnixSeconds(1'000'000);
};

// Waits for a callback and returns its argument.
template <class T>
class Waiter {
 public:
  auto callback() {
    return [this](absl::StatusOr<T> answer) {
      answer_ = std::move(answer);
      done_.Notify();
    };
  }
  absl::StatusOr<T>& Wait() {
    done_.WaitForNotification();
    return answer_;
  }
  bool done() const { return done_.HasBeenNotified(); }

 private:
  Notification done_;
  absl::StatusOr<T> answer_;
};

// Finds a model, and waits until it is loaded.
inline registry::MaybeSession FindIn(Registry* registry, const std::string& id) {
  Waiter<registry::SessionPtr> waiter;
  registry->Find(id, waiter.callback());
  return waiter.Wait();
}

class SessionFixture : public testing::Test {
 protected:
  static std::shared_ptr<const engine::Network> XorNetwork(uint64_t seed = 1) {
    return std::make_shared<engine::Network>(engine::XorSpec(seed, engine::DataType::kFloat32));
  }
  static std::shared_ptr<const engine::Dataset> XorRows(int64_t rows = 200) {
    return std::make_shared<engine::Dataset>(engine::XorData(rows, 1, engine::DataType::kFloat32));
  }
  static IsCancelled Never() {
    return [] { return false; };
  }

  absl::StatusOr<std::shared_ptr<Session>> TryCreate(const std::string& id,
                                                     records::RequestKey key = {},
                                                     std::optional<absl::Duration> ttl = {}) {
    Registry::CreateArgs args;
    args.info.id = id;
    args.info.ttl = ttl;
    args.network = XorNetwork();
    args.initial = [network = args.network] { return engine::InitialState(*network); };
    args.key = key;
    Waiter<std::shared_ptr<Session>> waiter;
    registry.Create(std::move(args), waiter.callback());
    return waiter.Wait();
  }
  absl::Status Delete(const std::string& id, records::RequestKey key = {}) {
    Notification deleted;
    absl::Status answer;
    registry.Delete(id, key, [&](const absl::Status& status) {
      answer = status;
      deleted.Notify();
    });
    deleted.WaitForNotification();
    return answer;
  }
  // A session outside of a registry.
  std::shared_ptr<Session> SessionOf(const engine::NetworkSpec& spec, const std::string& id = "m") {
    SessionStart start;
    start.info.id = id;
    start.uid = 1;
    start.network = std::make_shared<engine::Network>(spec);
    start.state = engine::InitialState(*start.network);
    start.create_time = clock.Now();
    return std::make_shared<Session>(&environment, std::move(start));
  }
  std::shared_ptr<Session> Create(const std::string& id) {
    auto session = TryCreate(id);
    EXPECT_TRUE(session.ok()) << session.status();
    return *session;
  }

  static absl::StatusOr<records::StepOutcome> Step(Session* session, records::RequestKey key = {},
                                                   std::optional<int64_t> expected = {},
                                                   IsCancelled cancelled = Never()) {
    Waiter<records::StepOutcome> waiter;
    Session::StepArgs args;
    args.work = engine::XorData(20, 1, engine::DataType::kFloat32);
    args.expected_step = expected;
    args.key = key;
    args.cancelled = std::move(cancelled);
    session->Step(std::move(args), waiter.callback());
    return waiter.Wait();
  }

  static Session::TrainArgs TrainArgsFor(int64_t iterations, bool wait = false,
                                         records::RequestKey key = {}, int64_t report_every = 100) {
    Session::TrainArgs args;
    args.config.iterations = iterations;
    args.data.rows = XorRows();
    args.config.batch_size = args.data.rows->rows;
    args.config.report_every = report_every;
    args.wait = wait;
    args.key = key;
    args.cancelled = Never();
    return args;
  }
  static absl::StatusOr<RunPtr> Train(Session* session, int64_t iterations, bool wait = false,
                                      records::RequestKey key = {}) {
    Waiter<RunPtr> waiter;
    session->Train(TrainArgsFor(iterations, wait, key), waiter.callback());
    return waiter.Wait();
  }
  // The same for a run that must start.
  static RunPtr Start(Session* session, Session::TrainArgs args) {
    Waiter<RunPtr> waiter;
    session->Train(std::move(args), waiter.callback());
    EXPECT_TRUE(waiter.Wait().ok()) << waiter.Wait().status();
    return *waiter.Wait();
  }
  static records::RunSummary WaitFor(const RunPtr& run) {
    Notification done;
    records::RunSummary summary;
    run->OnFinish([&](const absl::StatusOr<records::RunSummary>& s) {
      EXPECT_TRUE(s.ok()) << s.status();
      if (s.ok()) summary = *s;
      done.Notify();
    });
    done.WaitForNotification();
    return summary;
  }
  static size_t RecordsIn(store::Store* in, std::initializer_list<const store::Table*> tables) {
    size_t count = 0;
    for (const store::Table* table : tables) {
      EXPECT_TRUE(in->Scan(*table, "", "", [&](absl::string_view, absl::string_view) {
                      ++count;
                      return true;
                    }).ok());
    }
    return count;
  }
  static std::shared_ptr<const engine::State> Read(Session* session) { return session->Read(); }
  static std::vector<double> Values(const engine::State& state) {
    return engine::ToDoubles(state.values, 0, state.values.count());
  }

  static constexpr int64_t kForever = int64_t{1} << 50;

  FakeClock clock;
  store::MemoryStore archive;
  Environment environment{nullptr, &clock, {}, {}, {}, &archive, {}};
  Registry registry{&environment};
  // Last, so that active work ends before the objects that it uses are destroyed.
  exec::ComputePool pool{2};
  SessionFixture() { environment.pool = &pool; }
  ~SessionFixture() override {
    registry.Drain();
    store::WaitForAnswers(&archive);
  }
};

}  // namespace backprop::session

#endif  // BACKPROP_TESTS_SESSION_FIXTURE_H_
