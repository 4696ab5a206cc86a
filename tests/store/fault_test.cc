// Every file system call of RocksDB fails, one at a time: acknowledged batches are kept, rejected
// ones are complete or absent, and the store recovers.
#include <gtest/gtest.h>
#include <rocksdb/env.h>

#include <memory>
#include <set>
#include <string>
#include <thread>

#include "server/store/rocks_store.h"
#include "tests/notification.h"
#include "tests/store/faulty_env.h"
#include "tests/store/tables.h"
#include "tests/temporary_directory.h"

namespace backprop::store {
namespace {

constexpr int kCommits = 12;
// With sanitizers, which are ten times slower, every seventh call.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kStride = 7;
#else
constexpr int kStride = 1;
#endif

absl::Status Put(Store* store, int number) {
  WriteBatch batch;
  const std::string key = std::to_string(number);
  // Three tables, one of them with blob files: all or none are written.
  batch.Put(kPlain, key, "m" + key);
  batch.Put(kNumbers, key, std::string(3000, 's'));
  batch.Put(kLarge, key, std::string(5000, 'c'));
  Notification committed;
  absl::Status answer;
  store->Commit(std::move(batch), Durability::kSync, nullptr, [&](const absl::Status& status) {
    answer = status;
    committed.Notify();
  });
  committed.WaitForNotification();
  return answer;
}

struct Outcome {
  bool met = false;
  std::set<int> acknowledged;
  std::set<int> rejected;
};

// Opens a store, commits and closes it, on a file system whose `at`-th call has `fault`.
Outcome Scenario(const std::string& directory, Fault fault, int64_t at) {
  const auto system = std::make_shared<FaultyFileSystem>(fault, at);
  const auto env = rocksdb::NewCompositeEnv(system);
  Outcome outcome;
  {
    RocksOptions options;
    options.schema = kTestSchema;
    options.directory = directory;
    options.env = env.get();
    const auto store = OpenRocksStore(options);
    if (store.ok()) {
      for (int i = 0; i < kCommits; ++i) {
        absl::Status status = Put(store->get(), i);
        (status.ok() ? outcome.acknowledged : outcome.rejected).insert(i);
        if (status.ok()) continue;
        EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsResourceExhausted(status)) << status;
        // Reading still works.
        if (fault == Fault::kCrash) continue;
        // The store recovers without a restart and without a request.
        for (int wait = 0; wait < 5000 && !(*store)->health().ok(); ++wait) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        EXPECT_TRUE((*store)->health().ok()) << (*store)->health();
        EXPECT_TRUE((*store)->Get(kPlain, "0").ok()) << "reads must work";
      }
      if (fault != Fault::kCrash) {
        EXPECT_LE(outcome.rejected.size(), 2u);
      }
    }
  }
  outcome.met = system->met();
  if (fault == Fault::kCrash) system->LosePower();
  return outcome;
}

class FaultTest : public testing::TestWithParam<Fault> {};

TEST_P(FaultTest, NoAcknowledgedBatchIsLostWhicheverCallFails) {
  int64_t at = 1;
  for (;; at += kStride) {
    SCOPED_TRACE(testing::Message() << "call " << at);
    const TemporaryDirectory directory;
    const Outcome outcome = Scenario(directory.path(), GetParam(), at);
    RocksOptions options;
    options.schema = kTestSchema;
    options.directory = directory.path();
    const auto store = OpenRocksStore(options);
    ASSERT_TRUE(store.ok()) << store.status();
    for (int i = 0; i < kCommits; ++i) {
      const auto model = (*store)->Get(kPlain, std::to_string(i));
      const auto state = (*store)->Get(kNumbers, std::to_string(i));
      const auto checkpoint = (*store)->Get(kLarge, std::to_string(i));
      ASSERT_TRUE(model.ok() && state.ok() && checkpoint.ok());
      EXPECT_EQ(model->has_value(), state->has_value()) << i << " is torn";
      EXPECT_EQ(model->has_value(), checkpoint->has_value()) << i << " is torn";
      if (outcome.acknowledged.count(i) > 0) {
        EXPECT_TRUE(model->has_value()) << i << " was acknowledged";
      }
    }
    if (!outcome.met) {
      EXPECT_EQ(outcome.acknowledged.size(), static_cast<size_t>(kCommits));
      break;
    }
    if (HasFailure()) break;
  }
  EXPECT_GT(at, 50) << "the scenario makes that many calls";
}

// Attempts to recover begin after 5 ms, so that some of these stores are closed during one.
TEST(ClosingTest, AStoreThatRecoversCanBeClosed) {
  for (int wait = 0; wait < 30; ++wait) {
    const TemporaryDirectory directory;
    const auto system = std::make_shared<FaultyFileSystem>(Fault::kCrash, 60);
    const auto env = rocksdb::NewCompositeEnv(system);
    RocksOptions options;
    options.schema = kTestSchema;
    options.directory = directory.path();
    options.env = env.get();
    auto store = OpenRocksStore(options);
    ASSERT_TRUE(store.ok()) << store.status();
    for (int i = 0; Put(store->get(), i).ok(); ++i) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(wait));
    store->reset();
    options.env = nullptr;
    EXPECT_TRUE(OpenRocksStore(options).ok());
  }
}

std::string NameOf(const testing::TestParamInfo<Fault>& test) {
  static constexpr const char* kNames[] = {"Error", "NoSpace", "Torn", "Crash"};
  return kNames[static_cast<int>(test.param)];
}

INSTANTIATE_TEST_SUITE_P(Faults, FaultTest,
                         testing::Values(Fault::kError, Fault::kNoSpace, Fault::kTorn,
                                         Fault::kCrash),
                         NameOf);

}  // namespace
}  // namespace backprop::store
