#include "server/exec/sliced_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/notification.h"

namespace backprop::exec {
namespace {

// Work of `pieces` pieces that take `piece_time` each.
struct PiecesOfWork {
  explicit PiecesOfWork(int pieces_of_work, absl::Duration time_of_piece = absl::ZeroDuration())
      : pieces(pieces_of_work), piece_time(time_of_piece) {}

  bool cancelled() const { return is_cancelled; }
  bool Advance() {
    threads.push_back(std::this_thread::get_id());
    absl::SleepFor(piece_time);
    if (on_piece) on_piece();
    return --pieces > 0;
  }
  void Finish(const absl::Status& how) {
    status = how;
    ++finishes;
    done.Notify();
  }

  int pieces;  // left
  const absl::Duration piece_time;
  std::function<void()> on_piece;
  std::atomic<bool> is_cancelled{false};
  std::vector<std::thread::id> threads;  // one for each piece
  absl::Status status = absl::UnknownError("not finished");
  int finishes = 0;
  Notification done;
};

TEST(RunOrPostTest, ATaskAtTheInlineLimitRunsInlineAndOneAboveItOnThePool) {
  ComputePool pool(1);
  std::thread::id thread;
  pool.RunOrPost(ComputePool::kInlineCost, [&] { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
  Notification done;
  pool.RunOrPost(ComputePool::kInlineCost + 1, [&] {
    thread = std::this_thread::get_id();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(SlicedWorkTest, CheapWorkFinishesOnTheCallingThread) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(3);
  RunSliced(pool.main_share(), ComputePool::kInlineCost, work);
  EXPECT_EQ(work->finishes, 1);
  EXPECT_TRUE(work->status.ok()) << work->status;
  EXPECT_EQ(work->threads, std::vector<std::thread::id>(3, std::this_thread::get_id()));
}

TEST(SlicedWorkTest, ExpensiveWorkRunsOnThePool) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(3);
  RunSliced(pool.main_share(), ComputePool::kInlineCost + 1, work);
  work->done.WaitForNotification();
  EXPECT_TRUE(work->status.ok()) << work->status;
  ASSERT_EQ(work->threads.size(), 3U);
  for (const auto thread : work->threads) EXPECT_NE(thread, std::this_thread::get_id());
}

// Also work that was thought to be cheap leaves the calling thread when its slice is over.
TEST(SlicedWorkTest, TheCallingThreadRunsAtMostOneSlice) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(3, 2 * ComputePool::kSlice);
  RunSliced(pool.main_share(), 0, work);
  work->done.WaitForNotification();
  ASSERT_EQ(work->threads.size(), 3U);
  EXPECT_EQ(work->threads[0], std::this_thread::get_id());
  EXPECT_NE(work->threads[1], std::this_thread::get_id());
}

TEST(SlicedWorkTest, AnInteractiveTaskRunsBetweenTwoSlices) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(4, 2 * ComputePool::kSlice);
  size_t pieces_before = 0;
  work->on_piece = [&] {
    if (work->threads.size() > 1) return;
    pool.Post(Priority::kInteractive, [&] { pieces_before = work->threads.size(); });
  };
  RunSliced(pool.main_share(), ComputePool::kInlineCost + 1, work);
  work->done.WaitForNotification();
  EXPECT_EQ(pieces_before, 1U);
}

TEST(SlicedWorkTest, CancelledWorkEndsBeforeItsNextPiece) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(5);
  work->on_piece = [&] { work->is_cancelled = work->threads.size() == 2; };
  RunSliced(pool.main_share(), 0, work);
  EXPECT_EQ(work->threads.size(), 2U);
  EXPECT_EQ(work->finishes, 1);
  EXPECT_EQ(work->status.code(), absl::StatusCode::kCancelled);
}

TEST(SlicedWorkTest, TheLastPieceCountsAlthoughTheWorkIsCancelledMeanwhile) {
  ComputePool pool(1);
  const auto work = std::make_shared<PiecesOfWork>(2);
  work->on_piece = [&] { work->is_cancelled = work->threads.size() == 2; };
  RunSliced(pool.main_share(), 0, work);
  EXPECT_EQ(work->finishes, 1);
  EXPECT_TRUE(work->status.ok()) << work->status;
}

TEST(RefuseSlicedTest, ManyQueriesThatContinueRefuseLongOnesAfterAnInterval) {
  ComputePool pool(1);
  pool.SetDelayTarget(absl::Milliseconds(3));
  ComputePool::Share* const share = pool.NewShare();
  const auto refuses = [share](int64_t cost) { return share->RefuseSliced(cost).has_value(); };
  std::vector<ComputePool::Share::Continuing> queries;
  for (int i = 0; i < 4; ++i) queries.emplace_back(share);  // each slice waits for 4 ms
  EXPECT_FALSE(refuses(ComputePool::kSliceCost + 1)) << "a burst";
  absl::SleepFor(absl::Milliseconds(31));
  EXPECT_TRUE(refuses(ComputePool::kSliceCost + 1));
  EXPECT_FALSE(refuses(ComputePool::kSliceCost)) << "it is done in its first slice";
  EXPECT_FALSE(share->Refuse(ComputePool::kSliceCost + 1).has_value()) << "it is not sliced";
  queries.pop_back();
  EXPECT_FALSE(refuses(ComputePool::kSliceCost + 1));
}

TEST(RefuseSlicedTest, AQueryContinuesFromItsSecondSliceToItsEnd) {
  ComputePool pool(1);
  pool.SetDelayTarget(absl::Microseconds(10));  // one query is too much
  ComputePool::Share* const share = pool.NewShare();
  const auto refuses = [share] {
    return share->RefuseSliced(ComputePool::kSliceCost + 1).has_value();
  };
  const auto work = std::make_shared<PiecesOfWork>(6, absl::Milliseconds(2));  // a slice each
  std::vector<bool> refused;
  work->on_piece = [&] { refused.push_back(refuses()); };
  RunSliced(share, ComputePool::kSliceCost + 1, work);
  work->done.WaitForNotification();
  EXPECT_THAT(refused, testing::ElementsAre(false, true, true, true, true, true));
  while (refuses()) std::this_thread::yield();  // the task that finished the work ends
}

}  // namespace
}  // namespace backprop::exec
