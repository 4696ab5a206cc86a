// What every call of the service works with.
#ifndef BACKPROP_SERVER_RPC_CONTEXT_H_
#define BACKPROP_SERVER_RPC_CONTEXT_H_

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/session/registry.h"
#include "server/session/session.h"

namespace backprop::rpc {

// One finished call, for the log.
struct CallRecord {
  const char* method;        // "Step"
  const std::string& model;  // as the caller named it
  absl::StatusCode code;
  absl::string_view message;
  absl::Duration elapsed;
};
using CallObserver = std::function<void(const CallRecord&)>;

// Counts the calls under way. Thread-safe.
class CallCounter {
 public:
  void Enter() {
    absl::MutexLock lock(&mu_);
    ++calls_;
  }
  void Leave() {
    absl::MutexLock lock(&mu_);
    --calls_;
  }
  // Waits until there are none; false if that takes longer than `timeout`.
  bool WaitForNone(absl::Duration timeout) {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(
                                    +[](int64_t* calls) { return *calls == 0; }, &calls_),
                                timeout);
  }

 private:
  absl::Mutex mu_;
  int64_t calls_ ABSL_GUARDED_BY(mu_) = 0;
};

struct Context {
  session::Environment* environment;
  session::Registry* registry;
  CallObserver observer;  // may be empty
  CallCounter calls;

  const session::Limits& limits() const { return environment->limits; }
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CONTEXT_H_
