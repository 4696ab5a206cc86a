// The calls of a server that have not finished: counts them, logs their end, and notifies those
// that would stay open when the server stops.
#ifndef BACKPROP_SERVER_RPC_CALL_CALLS_H_
#define BACKPROP_SERVER_RPC_CALL_CALLS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/call_times.h"
#include "server/base/mutex.h"
#include "server/rpc/call/call_identity.h"
#include "server/rpc/call/call_stats.h"
#include "server/rpc/call/caller.h"

namespace backprop::rpc {

// One finished call, for logs. Valid while the observer runs.
struct CallRecord {
  const char* method;          // "Step"
  absl::string_view resource;  // the name in the request, not checked, or that of what was created
  absl::StatusCode code;
  absl::string_view message;
  absl::Duration elapsed;
  const Caller& caller;
  const CallIdentity& identity;
  absl::string_view peer;        // its address, as gRPC writes it
  const base::CallTimes* times;  // null: the call was not timed
};
// Called by any thread.
using CallObserver = std::function<void(const CallRecord&)>;

// What is written about calls. Each observer may be empty.
struct CallObservers {
  CallObserver every = {};   // of each call
  CallObserver change = {};  // of each call of a method that changes something, before its response
  CallObserver slow = {};    // of each call with one request and one response that took `slow_from`
  absl::Duration slow_from = absl::InfiniteDuration();
};

// A call that streams. It may stay open until its caller ends it, so it must be notified when the
// server stops.
class OpenCall {
 public:
  // What a server that stops sees of the call.
  struct Progress {
    bool waits_for_reader = false;  // for nothing but that the caller receives what was sent
    int64_t events = 0;             // grows with each message that was read or written
  };

  virtual ~OpenCall() = default;
  // Called at most once, when the server stops.
  virtual void OnServerStop() = 0;
  virtual Progress progress() const = 0;
  // Must end the call if for `timeout` nothing has happened but that the server waits for the
  // caller, as seen by these checks. Called repeatedly, by one thread at a time.
  virtual void CheckIdle(absl::Time now, absl::Duration timeout) = 0;
};

// Thread-safe.
class Calls {
 public:
  Calls() = default;
  // `stats` counts the calls; null: they are not counted.
  explicit Calls(CallObservers observers, std::unique_ptr<CallStats> stats = nullptr)
      : observers_(std::move(observers)), stats_(std::move(stats)) {}

  // For CallScope.
  void Enter() {
    const base::MutexLock lock(&mu_);
    ++count_;
  }
  // `open` was added by AddOpen, or is any other call.
  void Leave(const OpenCall* open = nullptr) {
    const base::MutexLock lock(&mu_);
    open_.erase(open);
    if (--count_ == 0) none_.NotifyAll();
  }
  const CallObservers& observers() const { return observers_; }
  CallStats* stats() const { return stats_.get(); }

  // Waits until no call is left. Returns false after `timeout`.
  bool WaitForNone(absl::Duration timeout) {
    const base::MutexLock lock(&mu_);
    return none_.WaitFor(&mu_, timeout,
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return count_ == 0; });
  }

  // NotifyStop and EndIdle will visit `call` until it leaves. After NotifyStop, notifies it at
  // once.
  void AddOpen(const std::shared_ptr<OpenCall>& call) {
    {
      const base::MutexLock lock(&mu_);
      open_.insert_or_assign(call.get(), call);
      if (!stopping_) return;
    }
    if (call != nullptr) call->OnServerStop();
  }
  // Notifies all open calls, without holding a lock. Does nothing if it was called before.
  void NotifyStop() {
    {
      const base::MutexLock lock(&mu_);
      if (std::exchange(stopping_, true)) return;
    }
    for (const auto& call : Open()) call->OnServerStop();
  }
  // Whether all calls that are left wait for nothing but that their callers receive what was sent,
  // and a number that changes when one of these receives a message. False if none is left.
  OpenCall::Progress Readers() const {
    const auto open = Open();
    OpenCall::Progress all{!open.empty(), 0};
    for (const auto& call : open) {
      const OpenCall::Progress one = call->progress();
      all.waits_for_reader = all.waits_for_reader && one.waits_for_reader;
      all.events += one.events;
    }
    const base::MutexLock lock(&mu_);
    if (count_ != static_cast<int64_t>(open.size())) all.waits_for_reader = false;
    return all;
  }
  // Ends the open calls whose callers have sent, and have read, nothing for `timeout`. Call it
  // several times per `timeout`; `now` must not go backward.
  void EndIdle(absl::Time now, absl::Duration timeout) {
    for (const auto& call : Open()) call->CheckIdle(now, timeout);
  }

 private:
  std::vector<std::shared_ptr<OpenCall>> Open() const {
    std::vector<std::shared_ptr<OpenCall>> open;
    const base::MutexLock lock(&mu_);
    open.reserve(open_.size());
    for (const auto& [key, call] : open_) {
      if (auto existing = call.lock()) open.push_back(std::move(existing));
    }
    return open;
  }

  const CallObservers observers_{};
  const std::unique_ptr<CallStats> stats_;
  mutable base::Mutex mu_;
  base::CondVar none_;
  int64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::unordered_map<const OpenCall*, std::weak_ptr<OpenCall>> open_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_CALLS_H_
