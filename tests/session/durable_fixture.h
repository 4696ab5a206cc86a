// Sessions on a store that tests close and reopen.
#ifndef BACKPROP_TESTS_SESSION_DURABLE_FIXTURE_H_
#define BACKPROP_TESTS_SESSION_DURABLE_FIXTURE_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/base/clock.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/records/tables.h"
#include "server/store/memory_store.h"
#include "tests/session/fixture.h"

namespace backprop::session {

// A server's sessions: everything that a restart discards. Ends like a killed process, except for
// batches already passed to the store.
struct Server {
  Server(store::Store* store, const base::Clock* clock, const base::Limits& limits)
      : environment{pool.get(), clock, limits, {}, store, store, nullptr} {
    environment.row_source = &datasets;
    EXPECT_TRUE(datasets.Open().ok());
    opened = registry.Open();
    EXPECT_TRUE(opened.ok()) << opened.status();
  }
  // Runs that do not resume end; the others store a mark.
  ~Server() {
    datasets.Stop();
    registry.Drain();
    pool.reset();
    store::WaitForAnswers(environment.store);
  }

  std::unique_ptr<exec::ComputePool> pool = std::make_unique<exec::ComputePool>(2);
  Environment environment;
  datasets::Datasets datasets{&environment, testing::TempDir()};
  Registry registry{&environment};
  absl::StatusOr<Registry::Opened> opened;
};

// Holds commits while requested, and can reject them.
class HeldStore final : public store::Store {
 public:
  explicit HeldStore(store::Store* kept) : kept_(kept) {}

  void Hold() {
    const base::MutexLock lock(&mu_);
    held_ = true;
  }
  // The same from the next batch that is not empty.
  void HoldNextWrite() {
    const base::MutexLock lock(&mu_);
    holds_next_write_ = true;
  }
  // Releases the held commits; if `refusal` is not OK, nothing of them is stored. Empty ones
  // succeed, as on a full disk, unless their chain is broken.
  void Release(const absl::Status& refusal) {
    std::vector<Commission> commits;
    {
      const base::MutexLock lock(&mu_);
      held_ = false;
      commits.swap(commits_);
    }
    for (Commission& commit : commits) {
      if (refusal.ok() || commit.batch.ops().empty()) {
        kept_->Commit(std::move(commit.batch), commit.durability, commit.chain,
                      std::move(commit.done));
        continue;
      }
      if (commit.chain != nullptr) commit.chain->Break();
      commit.done(refusal);
    }
  }
  size_t waiting() const {
    const base::MutexLock lock(&mu_);
    return commits_.size();
  }

  void Commit(store::WriteBatch batch, store::Durability durability,
              std::shared_ptr<store::Chain> chain, Done done) override {
    const base::MutexLock lock(&mu_);
    if (!batch.ops().empty() && std::exchange(holds_next_write_, false)) held_ = true;
    if (held_) {
      commits_.push_back({std::move(batch), durability, std::move(chain), std::move(done)});
      return;
    }
    kept_->Commit(std::move(batch), durability, std::move(chain), std::move(done));
  }
  // The next read of the record waits for ReleaseReads.
  void HoldNextRead(const store::Table& table, std::string key) {
    const base::MutexLock lock(&mu_);
    held_table_ = table.number;
    held_key_ = std::move(key);
  }
  void ReleaseReads() {
    const base::MutexLock lock(&mu_);
    held_table_ = 0;
    reading_ = false;
    released_.NotifyAll();
  }
  // Whether a read waits.
  bool reading() const {
    const base::MutexLock lock(&mu_);
    return reading_;
  }
  int64_t states_read() const {
    const base::MutexLock lock(&mu_);
    return states_read_;
  }
  absl::StatusOr<std::optional<std::string>> Get(const store::Table& table,
                                                 absl::string_view key) override {
    {
      const base::MutexLock lock(&mu_);
      if (table.number == records::kStates.number) ++states_read_;
      if (table.number == held_table_ && key == held_key_) {
        held_table_ = 0;
        reading_ = true;
        released_.Wait(&mu_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !reading_; });
      }
    }
    return kept_->Get(table, key);
  }
  absl::Status Scan(const store::Table& table, absl::string_view first, absl::string_view end,
                    Visitor visit) override {
    return kept_->Scan(table, first, end, visit);
  }
  absl::StatusOr<std::unique_ptr<store::Snapshot>> TakeSnapshot() override {
    return kept_->TakeSnapshot();
  }
  absl::Status health() const override { return absl::OkStatus(); }

 private:
  struct Commission {
    store::WriteBatch batch;
    store::Durability durability;
    std::shared_ptr<store::Chain> chain;
    Done done;
  };
  store::Store* const kept_;
  mutable base::Mutex mu_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool holds_next_write_ ABSL_GUARDED_BY(mu_) = false;
  base::CondVar released_;
  uint32_t held_table_ ABSL_GUARDED_BY(mu_) = 0;  // 0: none
  std::string held_key_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  int64_t states_read_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Commission> commits_ ABSL_GUARDED_BY(mu_);
};

class DurableFixture : public SessionFixture {
 protected:
  DurableFixture() { Restart(); }

  void Restart() {
    server.reset();
    server = std::make_unique<Server>(&held, &clock, limits);
  }

  engine::NetworkSpec Spec(const std::string& id) {
    auto spec = engine::XorSpec(1, engine::DataType::kFloat32);
    // Larger than its batches: its steps are logged.
    if (id == "large") {
      spec.layers.front().units = 64;
      spec.layers.insert(spec.layers.begin(), spec.layers.front());
      spec.optimizer.kind = engine::OptimizerKind::kAdam;
    }
    return spec;
  }

  absl::StatusOr<std::shared_ptr<Session>> Make(const std::string& id, records::RequestKey key = {},
                                                std::optional<absl::Duration> ttl = {}) {
    Registry::CreateArgs args;
    args.info.id = id;
    args.info.ttl = ttl;
    args.network = std::make_shared<engine::Network>(Spec(id));
    args.initial = [network = args.network] { return engine::InitialState(*network); };
    args.key = std::move(key);
    Waiter<std::shared_ptr<Session>> waiter;
    server->registry.Create(std::move(args), waiter.callback());
    return waiter.Wait();
  }
  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& id) {
    return FindIn(&server->registry, id);
  }
  absl::Status DeleteModel(const std::string& id, records::RequestKey key = {}) {
    Waiter<int> waiter;
    server->registry.Delete(id, key,
                            [done = waiter.callback()](const absl::Status& status) mutable {
                              if (status.ok()) return done(1);
                              done(status);
                            });
    return waiter.Wait().status();
  }

  base::Limits limits;
  store::MemoryStore store;
  HeldStore held{&store};
  std::unique_ptr<Server> server;
};

}  // namespace backprop::session

#endif  // BACKPROP_TESTS_SESSION_DURABLE_FIXTURE_H_
