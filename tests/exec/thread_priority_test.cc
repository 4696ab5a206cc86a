#include "server/exec/thread_priority.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace {

thread_local int yields_of_this_thread = 0;

}  // namespace

// Replaces the function of the C library in this program.
extern "C" int sched_yield() noexcept {
  ++yields_of_this_thread;
  return static_cast<int>(syscall(SYS_sched_yield));
}

namespace backprop::exec {
namespace {

using Clock = std::chrono::steady_clock;

TEST(LetOthersRunTest, AThreadThatComputesYieldsAtMostEvery50Microseconds) {
  std::thread([] {
    GiveWayToOthers();
    const auto now = Clock::now();
    LetOthersRun(now);
    EXPECT_EQ(yields_of_this_thread, 1);
    LetOthersRun(now);
    LetOthersRun(now + std::chrono::microseconds(49));
    EXPECT_EQ(yields_of_this_thread, 1);
    LetOthersRun(Clock::now() + std::chrono::microseconds(50));
    EXPECT_EQ(yields_of_this_thread, 2);
  }).join();
}

TEST(LetOthersRunTest, AThreadOfNormalPriorityDoesNotYield) {
  std::thread([] {
    LetOthersRun();
    LetOthersRun(Clock::now() + std::chrono::hours(1));
    EXPECT_EQ(yields_of_this_thread, 0);
  }).join();
}

}  // namespace
}  // namespace backprop::exec
