// What all RPCs share: the models, the log of calls, and the calls that are open.
#ifndef BACKPROP_SERVER_RPC_CONTEXT_H_
#define BACKPROP_SERVER_RPC_CONTEXT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/limits.h"
#include "server/base/mutex.h"
#include "server/registry/registry.h"
#include "server/session/session.h"

namespace backprop::rpc {

// One finished call, for the log. Valid while the observer runs.
struct CallRecord {
  const char* method;        // "Step"
  const std::string& model;  // the name in the request, not checked
  absl::StatusCode code;
  absl::string_view message;
  absl::Duration elapsed;
};
// Called by any thread.
using CallObserver = std::function<void(const CallRecord&)>;

// Counts the calls that have not finished. Thread-safe.
class CallCounter {
 public:
  void Enter() {
    const base::MutexLock lock(&mu_);
    ++calls_;
  }
  void Leave() {
    const base::MutexLock lock(&mu_);
    if (--calls_ == 0) none_.NotifyAll();
  }
  // Waits until no call is left. Returns false after `timeout`.
  bool WaitForNone(absl::Duration timeout) {
    const base::MutexLock lock(&mu_);
    return none_.WaitFor(&mu_, timeout,
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return calls_ == 0; });
  }

 private:
  base::Mutex mu_;
  base::CondVar none_;
  int64_t calls_ ABSL_GUARDED_BY(mu_) = 0;
};

// A call that stays open until its caller ends it, so it must be notified when the server stops.
class OpenCall {
 public:
  virtual ~OpenCall() = default;
  // Called at most once, by the thread that stops the server.
  virtual void OnServerStop() = 0;
};

// The open calls to notify. Holds no references to them. Thread-safe.
class OpenCalls {
 public:
  void Add(std::weak_ptr<OpenCall> call) {
    const base::MutexLock lock(&mu_);
    std::erase_if(calls_, [](const auto& known) { return known.expired(); });
    calls_.push_back(std::move(call));
  }
  // Notifies all calls added so far, without holding a lock.
  void TellAll() {
    std::vector<std::weak_ptr<OpenCall>> calls;
    {
      const base::MutexLock lock(&mu_);
      calls.swap(calls_);
    }
    for (const auto& weak : calls) {
      if (const auto call = weak.lock()) call->OnServerStop();
    }
  }

 private:
  base::Mutex mu_;
  std::vector<std::weak_ptr<OpenCall>> calls_ ABSL_GUARDED_BY(mu_);
};

// The members are thread-safe or do not change while the server runs.
struct Context {
  session::Environment* environment;
  registry::Registry* registry;
  CallObserver observer;  // may be empty
  CallCounter calls;
  OpenCalls open_calls;

  const base::Limits& limits() const { return environment->limits; }
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CONTEXT_H_
