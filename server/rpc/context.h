// What every call of the service works with.
#ifndef BACKPROP_SERVER_RPC_CONTEXT_H_
#define BACKPROP_SERVER_RPC_CONTEXT_H_

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/session/mutex.h"
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
    const session::MutexLock lock(&mu_);
    ++calls_;
  }
  void Leave() {
    const session::MutexLock lock(&mu_);
    if (--calls_ == 0) none_.NotifyAll();
  }
  // Waits until there are none; false if that takes longer than `timeout`.
  bool WaitForNone(absl::Duration timeout) {
    const session::MutexLock lock(&mu_);
    return none_.WaitFor(&mu_, timeout,
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return calls_ == 0; });
  }

 private:
  session::Mutex mu_;
  session::CondVar none_;
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
