#include "server/ops/system_limits.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace backprop::ops {
namespace {

// A server without data directory and connections uses 12.
constexpr int64_t kFewestDescriptors = 48;
// More are never needed, and the kernel's tables grow with them.
constexpr int64_t kMostDescriptors = 1 << 20;
constexpr int64_t kMostConnections = 10'000;
// Threads of gRPC, of the store and for maintenance, in addition to two per core.
constexpr int kOtherThreads = 24;
// An idle server with 4 compute threads uses 890 MB of address space, mostly stacks and arenas.
constexpr int64_t kLeastAddressSpace = int64_t{1} << 30;

int64_t LimitOf(decltype(RLIMIT_NOFILE) resource) {
  rlimit limit = {};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return INT64_MAX;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(INT64_MAX)));
}

// Starts up to `count` concurrent threads and joins them. Returns how many could be started.
int StartThreads(int count) {
  std::mutex mu;
  std::condition_variable changed;
  bool over = false;
  std::vector<std::thread> threads;
  try {
    threads.reserve(static_cast<size_t>(count));
    while (static_cast<int>(threads.size()) < count) {
      threads.emplace_back([&] {
        std::unique_lock<std::mutex> lock(mu);
        changed.wait(lock, [&] { return over; });
      });
    }
  } catch (const std::system_error&) {  // EAGAIN: the limit
  } catch (const std::bad_alloc&) {
  }
  {
    const std::lock_guard<std::mutex> lock(mu);
    over = true;
  }
  changed.notify_all();
  for (std::thread& thread : threads) thread.join();
  return static_cast<int>(threads.size());
}

void OnAbort(int /*signal*/) {
  static constexpr char kLine[] =
      "backpropd: a library aborted while the server started, probably because of a system limit: "
      "check ulimit -n (open files), -u (processes) and -v (address space); --log-level debug logs "
      "more\n";
  (void)!write(STDERR_FILENO, kLine, sizeof(kLine) - 1);
  _exit(1);
}

}  // namespace

Descriptors ShareDescriptors(int64_t allowed) {
  Descriptors share;
  share.allowed = allowed;
  const int64_t reserve = std::clamp<int64_t>(allowed / 4, 16, 1024);
  share.for_connections = std::max<int64_t>(allowed - reserve, 1);
  share.max_connections = std::clamp<int64_t>(share.for_connections, 1, kMostConnections);
  return share;
}

Descriptors RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ShareDescriptors(1024);
  const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kMostDescriptors);
  if (limit.rlim_cur < wanted) {
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  return ShareDescriptors(static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, kMostDescriptors)));
}

absl::Status CheckSystemLimits(const Descriptors& descriptors, int compute_threads) {
  if (descriptors.allowed < kFewestDescriptors) {
    return absl::UnavailableError(absl::StrCat(
        "the limit of open files is ", descriptors.allowed, ", but the server needs at least ",
        kFewestDescriptors, "; raise it (ulimit -n, LimitNOFILE=)"));
  }
  if (const int64_t space = LimitOf(RLIMIT_AS); space < kLeastAddressSpace) {
    return absl::UnavailableError(absl::StrCat(
        "the limit of address space is ", space >> 20, " MB, but the server needs at least ",
        kLeastAddressSpace >> 20,
        " MB; raise it (ulimit -v, LimitAS=), and limit memory with --memory-limit or a cgroup"));
  }
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int needed = compute_threads + 2 * std::min(cores, 32) + kOtherThreads;
  if (const int started = StartThreads(needed); started < needed) {
    return absl::UnavailableError(absl::StrCat(
        "the system allows ", started, " more threads, but the server with --threads ",
        compute_threads, " needs ", needed,
        "; raise the limit of processes (ulimit -u, LimitNPROC=, TasksMax=, --pids-limit)"));
  }
  return absl::OkStatus();
}

bool ExecutableMemoryIsAllowed() {
  const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const page =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return true;  // not this limit
  const bool allowed = mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
  munmap(page, size);
  return allowed;
}

AbortIsAFailedStart::AbortIsAFailedStart() { signal(SIGABRT, OnAbort); }
AbortIsAFailedStart::~AbortIsAFailedStart() { signal(SIGABRT, SIG_DFL); }

}  // namespace backprop::ops
