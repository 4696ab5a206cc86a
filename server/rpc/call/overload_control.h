// Refuses calls that the server cannot answer in time, before their requests are parsed.
#ifndef BACKPROP_SERVER_RPC_CALL_OVERLOAD_CONTROL_H_
#define BACKPROP_SERVER_RPC_CALL_OVERLOAD_CONTROL_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/counters.h"
#include "server/exec/queue_delay.h"
#include "server/rpc/call/call_stats.h"

namespace backprop::rpc {

// Limits of calls with one request. 0, the defaults of a server in tests: no limit.
struct OverloadLimits {
  int64_t max_active_calls = 0;  // received and not answered, in all
  // The same of one project. kAsManyAsAreFree: as many as all projects leave free. One project that
  // asks for any number then gets half of all, two get a third each, and there is always room for
  // another.
  int64_t max_active_calls_per_project = 0;
  static constexpr int64_t kAsManyAsAreFree = -1;
  int64_t max_request_bytes = 0;  // of the requests of these calls, as they were received
  // The time that a call should wait at most: for a thread of gRPC, and its work for a thread of
  // the compute pool and for earlier changes of its model (exec/queue_delay.h).
  absl::Duration delay_target = absl::ZeroDuration();
};

// What was full, or too slow, when a call was refused.
enum class Overload {
  kCalls,         // max_active_calls
  kProjectCalls,  // max_active_calls_per_project
  kRequestBytes,  // max_request_bytes
  kReceiving,     // the queue of gRPC's threads
  kThreads,       // the project's queue of the compute pool
  kModel,         // the queue of the model's changes
};
inline constexpr std::array<Overload, 6> kOverloads = {
    Overload::kCalls,     Overload::kProjectCalls, Overload::kRequestBytes,
    Overload::kReceiving, Overload::kThreads,      Overload::kModel};
const char* NameOf(Overload overload);  // "calls"

// Bounds the calls of a server, and counts those that were refused. Thread-safe, without locks.
class OverloadControl {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // A call that is active until its permit is destroyed. Thread-compatible. Must not outlive the
  // control.
  class Permit {
   public:
    Permit() = default;
    Permit(Permit&& other) noexcept { *this = std::move(other); }
    Permit& operator=(Permit&& other) noexcept {
      std::swap(control_, other.control_);
      std::swap(project_, other.project_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Permit() {
      if (control_ != nullptr) control_->Leave(project_, bytes_);
    }

   private:
    friend class OverloadControl;
    OverloadControl* control_ = nullptr;  // null: no call
    size_t project_ = 0;
    int64_t bytes_ = 0;
  };

  // Call before the first call arrives.
  void SetLimits(const OverloadLimits& limits);

  // Begins a call of a project (CountedProject) with a request of `bytes` bytes, which was received
  // at `received`. UNAVAILABLE (OVERLOADED) if it must be refused; `permit` is then unchanged. A
  // request is never refused for its size while no other is active.
  absl::Status Begin(size_t project, int64_t bytes, TimePoint received, TimePoint now,
                     Permit* permit);

  // Counts a refusal, and returns it as the error of the call: UNAVAILABLE, because the same call
  // can succeed later and clients retry this code; RESOURCE_EXHAUSTED means a quota or a limit of
  // one request. The reason is OVERLOADED, with `queue` (NameOf) and `retry_after`.
  absl::Status Refuse(Overload overload, absl::string_view why, absl::Duration retry_after);

  int64_t active_calls() const { return calls_.value.load(std::memory_order_relaxed); }
  int64_t request_bytes() const { return bytes_.value.load(std::memory_order_relaxed); }
  int64_t refused(Overload overload) const {
    return refused_[static_cast<size_t>(overload)].value();
  }

 private:
  // Requests below this size are bounded by the number of calls alone.
  static constexpr int64_t kUncountedBytes = 4096;
  struct alignas(base::kCacheLineBytes) Count {
    std::atomic<int64_t> value{0};
  };

  // Returns the new value.
  static int64_t Add(Count* count, int64_t amount) {
    return count->value.fetch_add(amount, std::memory_order_relaxed) + amount;
  }
  bool counts_projects() const { return limits_.max_active_calls_per_project != 0; }
  // `calls`: that are active in all, with this one; `of_project`: those of its project.
  absl::Status CheckCalls(int64_t calls, int64_t of_project);
  void Leave(size_t project, int64_t bytes);
  // Whether a call that waited for `waited` is late, and no other one was in the interval before.
  bool IsAlone(TimePoint now, exec::DelayState::Duration waited);

  OverloadLimits limits_;
  exec::DelayState::Duration target_{0};
  exec::DelayState receiving_;
  // When the last late call began, in nanoseconds of the steady clock.
  std::atomic<int64_t> last_late_{std::numeric_limits<int64_t>::min() / 2};
  Count calls_;
  Count bytes_;
  std::array<Count, kMostCountedProjects> of_project_;
  std::array<base::Counter, kOverloads.size()> refused_;
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_OVERLOAD_CONTROL_H_
