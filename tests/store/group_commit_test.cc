#include "server/store/group_commit.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/notification.h"
#include "tests/store/tables.h"

namespace backprop::store {
namespace {

// Records groups; the first write waits until it may continue.
struct Recorder {
  GroupCommit::WriteGroup write = [this](const std::vector<const WriteBatch*>& batches, bool sync) {
    if (groups.empty()) {
      first_write_begins.Notify();
      proceed.WaitForNotification();
    }
    groups.push_back({batches.size(), sync});
    return groups.size() == fails_at ? absl::ResourceExhaustedError("full") : absl::OkStatus();
  };
  struct Group {
    size_t batches;
    bool sync;
  };
  Notification first_write_begins;
  Notification proceed;
  size_t fails_at = 0;
  std::vector<Group> groups;  // used by the writer thread; read after it has ended
  std::vector<absl::StatusCode> answers;
  Store::Done Answer() {
    return [this](const absl::Status& status) { answers.push_back(status.code()); };
  }
};

TEST(GroupCommitTest, BatchesCommittedDuringAWriteShareTheNextGroup) {
  Recorder recorder;
  {
    GroupCommit commits(recorder.write, [] { return absl::OkStatus(); });
    commits.Commit({}, Durability::kNone, nullptr, recorder.Answer());
    recorder.first_write_begins.WaitForNotification();
    for (int i = 0; i < 9; ++i) {
      commits.Commit({}, i == 4 ? Durability::kSync : Durability::kNone, nullptr,
                     recorder.Answer());
    }
    recorder.proceed.Notify();
  }
  ASSERT_EQ(recorder.groups.size(), 2u);
  EXPECT_FALSE(recorder.groups[0].sync);
  EXPECT_EQ(recorder.groups[1].batches, 9u);
  EXPECT_TRUE(recorder.groups[1].sync) << "one of the batches requires a sync";
  EXPECT_EQ(recorder.answers, std::vector<absl::StatusCode>(10, absl::StatusCode::kOk));
}

TEST(GroupCommitTest, AfterAFailureNoBatchOfTheChainIsWritten) {
  Recorder recorder;
  recorder.fails_at = 1;
  const auto broken = std::make_shared<Chain>();
  const auto other = std::make_shared<Chain>();
  {
    GroupCommit commits(recorder.write, [] { return absl::OkStatus(); });
    commits.Commit({}, Durability::kSync, broken, recorder.Answer());
    recorder.first_write_begins.WaitForNotification();
    commits.Commit({}, Durability::kSync, broken, recorder.Answer());
    commits.Commit({}, Durability::kSync, other, recorder.Answer());
    recorder.proceed.Notify();
  }
  EXPECT_TRUE(broken->broken());
  EXPECT_FALSE(other->broken());
  EXPECT_EQ(recorder.answers,
            (std::vector<absl::StatusCode>{absl::StatusCode::kResourceExhausted,
                                           absl::StatusCode::kUnavailable, absl::StatusCode::kOk}));
  ASSERT_EQ(recorder.groups.size(), 2u);
  EXPECT_EQ(recorder.groups[1].batches, 1u);
}

TEST(GroupCommitTest, OnAFullDiskDeletionsAreWrittenAndOtherBatchesFail) {
  Recorder recorder;
  recorder.fails_at = 1;
  bool full = false;
  const auto chain = std::make_shared<Chain>();
  {
    GroupCommit commits(
        [&](const std::vector<const WriteBatch*>& batches, bool sync) {
          const absl::Status status = recorder.write(batches, sync);
          full = full || !status.ok();
          return status;
        },
        [&] { return full ? absl::ResourceExhaustedError("full") : absl::OkStatus(); },
        [&](const WriteBatch& batch) {
          return !full || batch.OnlyFrees() ? absl::OkStatus()
                                            : absl::ResourceExhaustedError("full");
        });
    WriteBatch deletion, addition, later;
    deletion.Delete(kPlain, "a");
    deletion.Put(kAnswers, "answer", "");
    addition.Put(kPlain, "b", "");
    later.Delete(kPlain, "b");
    // The first group fails, and its deletion is tried again.
    commits.Commit(deletion, Durability::kSync, nullptr, recorder.Answer());
    recorder.first_write_begins.WaitForNotification();
    commits.Commit(addition, Durability::kSync, chain, recorder.Answer());
    commits.Commit(later, Durability::kSync, chain, recorder.Answer());
    commits.Commit(deletion, Durability::kSync, nullptr, recorder.Answer());
    recorder.proceed.Notify();
  }
  EXPECT_TRUE(chain->broken());
  EXPECT_EQ(recorder.answers, (std::vector<absl::StatusCode>{
                                  absl::StatusCode::kOk, absl::StatusCode::kResourceExhausted,
                                  absl::StatusCode::kUnavailable, absl::StatusCode::kOk}));
}

TEST(GroupCommitTest, RecoveryIsRetriedUntilItSucceedsWithoutFurtherCommits) {
  Notification recovered;
  int tries = 0;
  GroupCommit commits([](const auto&, bool) { return absl::OkStatus(); },
                      [&] {
                        if (++tries < 3) return absl::UnavailableError("not yet");
                        recovered.Notify();
                        return absl::OkStatus();
                      });
  commits.Mend();
  recovered.WaitForNotification();
}

TEST(GroupCommitTest, TheDestructorSyncsUnsyncedBatches) {
  Recorder recorder;
  recorder.proceed.Notify();
  int syncs = 0;
  {
    GroupCommit commits(recorder.write, [&] {
      ++syncs;
      return absl::OkStatus();
    });
    commits.Commit({}, Durability::kEverySecond, nullptr, recorder.Answer());
  }
  EXPECT_EQ(syncs, 1);
}

}  // namespace
}  // namespace backprop::store
