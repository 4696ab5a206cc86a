#include "server/base/counters.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace backprop::base {
namespace {

TEST(CounterTest, NoAdditionOfAnyThreadIsLost) {
  constexpr int kThreads = 20;  // more than shards
  constexpr int kEach = 10'000;
  Counter counter;
  SizeHistogram histogram;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        counter.Add(3);
        histogram.Add(2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 3 * kThreads * kEach);
  EXPECT_EQ(histogram.values().count(), kThreads * kEach);
  EXPECT_EQ(histogram.values().sum, 2 * kThreads * kEach);
}

TEST(HistogramTest, ABucketHoldsValuesUpToItsBound) {
  SizeHistogram histogram;
  for (const int64_t value : {0, 1, 2, 3, 4, 4096, 4097}) histogram.Add(value);
  const HistogramValues values = histogram.values();
  ASSERT_EQ(values.counts.size(), kSizeBounds.size() + 1);
  EXPECT_EQ(values.counts[0], 2);  // 0 and 1
  EXPECT_EQ(values.counts[1], 1);  // 2
  EXPECT_EQ(values.counts[2], 2);  // 3 and 4
  EXPECT_EQ(values.counts[3], 0);
  EXPECT_EQ(values.counts[12], 1);  // 4096
  EXPECT_EQ(values.counts[13], 1);  // 4097: above all bounds
  EXPECT_EQ(values.count(), 7);
  EXPECT_EQ(values.sum, 0 + 1 + 2 + 3 + 4 + 4096 + 4097);
}

TEST(TimeHistogramTest, TimesGoFrom50MicrosecondsTo60Seconds) {
  TimeHistogram histogram;
  histogram.Add(std::chrono::microseconds(50));
  histogram.Add(std::chrono::microseconds(51));
  histogram.Add(std::chrono::seconds(60));
  histogram.Add(std::chrono::seconds(61));
  const HistogramValues values = histogram.values();
  EXPECT_EQ(values.counts.front(), 1);
  EXPECT_EQ(values.counts[1], 1);
  EXPECT_EQ(values.counts[values.counts.size() - 2], 1);
  EXPECT_EQ(values.counts.back(), 1);
  EXPECT_EQ(values.sum, 121'000'101'000);
}

}  // namespace
}  // namespace backprop::base
