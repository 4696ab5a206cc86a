// Bounds the memory of what callers have not received yet.
#ifndef BACKPROP_SERVER_RPC_CALL_SENDING_H_
#define BACKPROP_SERVER_RPC_CALL_SENDING_H_

#include <grpc/grpc.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/base/status.h"

namespace backprop::rpc {

// Counts the memory of large responses and of files until gRPC has sent them: callers that do not
// read would otherwise keep any number of them in memory. Thread-safe.
class Sending {
  using Counter = std::shared_ptr<std::atomic<int64_t>>;

  // What one claim holds.
  class Held {
   public:
    Held(Counter used, int64_t bytes, grpc_call* call)
        : used_(std::move(used)), bytes_(bytes), call_(call) {
      if (call_ != nullptr) grpc_call_ref(call_);
    }
    ~Held() {
      used_->fetch_sub(bytes_);
      if (call_ != nullptr) grpc_call_unref(call_);
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    // For EndIdle.
    void Check(absl::Time now, absl::Duration timeout) {
      first_check_ = std::min(first_check_, now);
      if (now - first_check_ >= timeout) grpc_call_cancel(call_, nullptr);
    }

   private:
    const Counter used_;
    const int64_t bytes_;
    grpc_call* const call_;  // a reference; or null
    absl::Time first_check_ = absl::InfiniteFuture();
  };

 public:
  // Memory that is counted until the claim is destroyed. May outlive the Sending.
  using Claim = std::shared_ptr<Held>;

  // 0, the default: no limit.
  void set_limit(int64_t bytes) { limit_ = bytes; }

  // RESOURCE_EXHAUSTED (LIMIT_EXCEEDED) if the limit is reached; the message begins with `what`. A
  // claim is never refused while there is no other. EndIdle will visit `call` unless it is null.
  absl::StatusOr<Claim> Ask(int64_t bytes, absl::string_view what, grpc_call* call = nullptr) {
    const int64_t before = used_->fetch_add(bytes);
    auto claim = std::make_shared<Held>(used_, bytes, call);
    const int64_t limit = limit_;
    if (limit != 0 && before != 0 && before + bytes > limit) {
      return base::ReasonError(
          absl::StatusCode::kResourceExhausted,
          absl::StrCat(what, ": needs ", bytes, " bytes of memory until it is sent, but ", before,
                       " of the ", limit, " bytes of --max-in-flight-bytes are used by others ",
                       "that their callers have not received yet"),
          {"LIMIT_EXCEEDED", {{"limit", "max_in_flight_bytes"}}});
    }
    if (call != nullptr) {
      const base::MutexLock lock(&mu_);
      std::erase_if(held_, [](const auto& known) { return known.expired(); });
      held_.push_back(claim);
    }
    return claim;
  }

  // Cancels the calls whose claims were there `timeout` ago. Call it several times per `timeout`,
  // one thread at a time; `now` must not go backward.
  void EndIdle(absl::Time now, absl::Duration timeout) {
    std::vector<std::weak_ptr<Held>> held;
    {
      const base::MutexLock lock(&mu_);
      held = held_;
    }
    for (const auto& known : held) {
      if (const Claim claim = known.lock()) claim->Check(now, timeout);
    }
  }

  int64_t used() const { return *used_; }

 private:
  std::atomic<int64_t> limit_{0};
  const Counter used_ = std::make_shared<std::atomic<int64_t>>(0);
  base::Mutex mu_;
  std::vector<std::weak_ptr<Held>> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_SENDING_H_
