// When a run reports, and the rates in the reports.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "server/exec/lent_threads.h"
#include "server/session/trainer.h"
#include "tests/session/fixture.h"

namespace backprop::session {
namespace {

class ReportTest : public SessionFixture {
 protected:
  static std::vector<records::Progress> ProgressOf(const session::Run& run) {
    std::vector<records::Progress> all;
    int64_t next = 1;
    while (const auto event = run.log().Read(&next)) {
      if (const auto* progress = std::get_if<records::Progress>(&event->body))
        all.push_back(*progress);
    }
    return all;
  }
};

TEST_F(ReportTest, AReportComesAtTheFirstStepThatEndsAfterTheInterval) {
  constexpr int64_t kLongEnough = 3'000'000;  // seconds
  const auto session = Create("m");
  auto args = TrainArgsFor(kForever, false, {}, kForever);
  args.config.report_interval = absl::Milliseconds(1);
  const auto run = Start(session.get(), std::move(args));
  while (run->log().last_sequence() < 12 && session->activity().step < kLongEnough) {
    std::this_thread::yield();
  }
  run->RequestStop(records::StopReason::kStopped);
  const records::RunSummary summary = WaitFor(run);
  const auto progress = ProgressOf(*run);
  EXPECT_GE(progress.size(), 10U);
  EXPECT_EQ(progress[0].iteration, 1);
  for (size_t i = 1; i < progress.size(); ++i) {
    EXPECT_GT(progress[i].iteration, progress[i - 1].iteration);
  }
  EXPECT_LE(run->log().last_sequence() - 3, summary.elapsed / absl::Milliseconds(1))
      << "and none earlier";
}

TEST_F(ReportTest, WithoutAnIntervalOnlyIterationsCount) {
  const auto session = Create("m");
  const auto run = Start(session.get(), TrainArgsFor(20'000, false, {}, 9'999));
  WaitFor(run);
  std::vector<int64_t> iterations;
  for (const records::Progress& progress : ProgressOf(*run))
    iterations.push_back(progress.iteration);
  EXPECT_EQ(iterations, (std::vector<int64_t>{1, 9'999, 19'998, 20'000}));
}

// Neither the time before the first step nor that step, which allocates, counts for a rate.
TEST_F(ReportTest, RatesLeaveOutTheStart) {
  constexpr auto kStart = std::chrono::milliseconds(100);
  constexpr int64_t kIterations = 1000;
  records::RunConfig config;
  config.iterations = kIterations;
  config.batch_size = 1;
  config.report_every = kIterations / 2;
  const auto run = std::make_shared<session::Run>("models/m/runs/1", 1, config);
  const auto network = XorNetwork();
  exec::LentThreads threads(&pool);
  Trainer trainer(network, run, RunData{XorRows(10), nullptr}, engine::InitialState(*network),
                  &threads);
  trainer.LogStart();
  // As long as a run may wait for its turn or prepare its rows.
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < begin + kStart) std::this_thread::yield();
  const auto steps = std::chrono::steady_clock::now();
  while (!trainer.Slice(absl::Milliseconds(1)).has_value()) {
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - steps;
  const auto progress = ProgressOf(*run);
  ASSERT_EQ(progress.size(), 3U);
  for (const size_t i : {1U, 2U}) {
    EXPECT_GE(progress[i].samples_per_second,
              static_cast<double>(progress[i].iteration - 1) / took.count());
  }
  EXPECT_LE(progress[1].eta, absl::Seconds(2 * took.count())) << "half of the run is left";
  EXPECT_EQ(progress[2].eta, absl::ZeroDuration());
}

}  // namespace
}  // namespace backprop::session
