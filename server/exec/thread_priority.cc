#include "server/exec/thread_priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace backprop::exec {
namespace {

// A third of the weight of a thread of nice 0.
constexpr int kNice = 5;
// Time that the thread runs before the kernel looks for a waiting thread; the default is 3 ms.
constexpr uint64_t kTimeSliceNanos = 200'000;

// As in linux/sched/types.h, which clashes with the C library's sched.h.
struct SchedAttr {
  uint32_t size = sizeof(SchedAttr);
  uint32_t policy = 0;  // SCHED_OTHER
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // the time slice, since Linux 6.12
  uint64_t deadline = 0;
  uint64_t period = 0;
};

constexpr std::chrono::microseconds kBetweenYields{50};

// Time of this thread's next yield; a thread that does not compute never yields.
thread_local auto next_yield = std::chrono::steady_clock::time_point::max();

}  // namespace

void LetOthersRun(std::chrono::steady_clock::time_point now) {
  if (now < next_yield) return;
  sched_yield();
  next_yield = std::chrono::steady_clock::now() + kBetweenYields;
}

void GiveWayToOthers() {
  next_yield = {};
  const auto thread = static_cast<id_t>(gettid());
  // A process that was started with a lower priority keeps it.
  const int nice = getpriority(PRIO_PROCESS, thread);
  SchedAttr attributes;
  attributes.nice = nice > kNice ? nice : kNice;
  attributes.runtime = kTimeSliceNanos;
  if (syscall(SYS_sched_setattr, thread, &attributes, 0) == 0) return;
  setpriority(PRIO_PROCESS, thread, attributes.nice);
}

}  // namespace backprop::exec
