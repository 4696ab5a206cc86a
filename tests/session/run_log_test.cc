#include "server/session/run_log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "server/session/run.h"

namespace backprop::session {
namespace {

records::Progress At(int64_t iteration) {
  records::Progress progress;
  progress.iteration = iteration;
  return progress;
}

std::vector<int64_t> ReadAll(const RunLog& log, int64_t from, int64_t* dropped) {
  std::vector<int64_t> sequences;
  *dropped = 0;
  while (const auto event = log.Read(&from)) {
    sequences.push_back(event->sequence);
    *dropped += event->dropped;
  }
  return sequences;
}

TEST(RunLogTest, AFastReaderGetsEverything) {
  RunLog log(4);
  log.Append(records::RunStarted{});
  for (int64_t i = 1; i <= 4; ++i) log.Append(At(i));
  int64_t dropped = 0;
  EXPECT_EQ(ReadAll(log, 1, &dropped), (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(dropped, 0);
}

TEST(RunLogTest, ASlowReaderGetsFirstAndNewestAndIsToldWhatItMissed) {
  RunLog log(3);
  log.Append(records::RunStarted{});
  for (int64_t i = 1; i <= 100; ++i) log.Append(At(i));
  log.Append(records::RunSummary{});
  int64_t dropped = 0;
  EXPECT_EQ(ReadAll(log, 1, &dropped), (std::vector<int64_t>{1, 2, 100, 101, 102}));
  EXPECT_EQ(dropped, 97);
  EXPECT_EQ(ReadAll(log, 50, &dropped), (std::vector<int64_t>{100, 101, 102}));
  EXPECT_EQ(dropped, 50);
  EXPECT_EQ(ReadAll(log, 102, &dropped), (std::vector<int64_t>{102}));
  EXPECT_EQ(ReadAll(log, 103, &dropped), (std::vector<int64_t>{}));
}

TEST(RunLogTest, ReadingIsRepeatableAndStartsAtOne) {
  RunLog log(3);
  log.Append(records::RunStarted{});
  int64_t next = 0;
  EXPECT_EQ(log.Read(&next)->sequence, 1);
  EXPECT_EQ(next, 2);
  EXPECT_FALSE(log.Read(&next).has_value());
  EXPECT_EQ(next, 2);
}

class Counter : public RunListener {
 public:
  void OnRunEvent() override { ++events; }
  std::atomic<int> events{0};
};

TEST(RunLogTest, ListenersAreToldWhileTheyLive) {
  RunLog log(3);
  auto counter = std::make_shared<Counter>();
  log.Listen(counter);
  log.Append(records::RunStarted{});
  EXPECT_EQ(counter->events, 1);
  counter.reset();
  log.Append(At(1));  // must not use the listener
}

// A listener for an event after the run's last one is woken only by the end of the run.
class FinishedWatcher : public RunListener {
 public:
  explicit FinishedWatcher(const Run* run) : run_(run) {}
  void OnRunEvent() override { saw_finished = saw_finished || run_->finished(); }
  std::atomic<bool> saw_finished{false};

 private:
  const Run* const run_;
};

TEST(RunLogTest, ListenersAreToldOnceTheRunHasFinished) {
  session::Run run("models/m/runs/1", 1, records::RunConfig());
  const auto watcher = std::make_shared<FinishedWatcher>(&run);
  run.log().Listen(watcher);
  run.Finish(records::RunSummary());
  EXPECT_TRUE(watcher->saw_finished);
}

TEST(RunLogTest, ReadersAndTheWriterRunSideBySide) {
  RunLog log(8);
  std::thread writer([&] {
    log.Append(records::RunStarted{});
    for (int64_t i = 1; i <= 20000; ++i) log.Append(At(i));
    log.Append(records::RunSummary{});
  });
  std::vector<std::thread> readers;
  std::vector<int64_t> totals(3);
  for (size_t r = 0; r < totals.size(); ++r) {
    readers.emplace_back([&, r] {
      int64_t next = 1;
      int64_t last = 0;
      for (;;) {
        const auto event = log.Read(&next);
        if (!event.has_value()) continue;
        EXPECT_EQ(event->sequence, last + 1 + event->dropped);
        last = event->sequence;
        totals[r] += 1 + event->dropped;
        if (std::holds_alternative<records::RunSummary>(event->body)) return;
      }
    });
  }
  writer.join();
  for (auto& reader : readers) reader.join();
  for (int64_t total : totals) EXPECT_EQ(total, 20002);
}

}  // namespace
}  // namespace backprop::session
