// The base of all calls that stream.
#ifndef BACKPROP_SERVER_RPC_CALL_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/rpc/call/call_scope.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"
#include "server/session/projects.h"

namespace backprop::rpc {

// In place of the message of a direction that does not stream.
struct NoStream {};

template <class Request, class Response>
struct ReactorOf {
  using Type = grpc::ServerBidiReactor<Incoming<Request>, Response>;
};
template <class Response>
struct ReactorOf<NoStream, Response> {
  using Type = grpc::ServerWriteReactor<Response>;
};
template <class Request>
struct ReactorOf<Request, NoStream> {
  using Type = grpc::ServerReadReactor<Incoming<Request>>;
};

// What a stream must start now. A stream that must end starts nothing else.
struct Due {
  bool read = false;    // StartRead(&request_)
  bool write = false;   // StartWrite(&response_)
  bool work = false;    // Work()
  bool cancel = false;  // gRPC ends the pending write with an error
  std::optional<absl::Status> end = std::nullopt;
};

// A call that reads a stream of Requests, writes a stream of Responses, or both. After every event
// the stream asks Next, which the derived class implements, what is due, and starts it. Events are:
// a message was read or written, the caller cancelled, the server stops, the derived class calls
// Pump.
//
// One thread at a time starts what is due, so nothing is started after the end. It does not hold
// the lock, because gRPC may call a reaction before an operation returns. At most one read and one
// write are pending.
//
// Create it with MakeStream. It keeps itself alive until OnDone; callers of its methods must hold a
// reference. Thread-safe.
template <class Request, class Response>
class Stream : public ReactorOf<Request, Response>::Type,
               public OpenCall,
               public std::enable_shared_from_this<Stream<Request, Response>> {
 public:
  const Caller& caller() const { return scope_.caller(); }
  bool cancelled() const { return scope_.cancelled(); }
  absl::Time deadline() const { return scope_.deadline(); }

  void OnCancel() final {
    TakeOver(this);
    const auto self = this->shared_from_this();
    scope_.Cancel();
    OnCallerGone();
    Pump();
  }

  void OnServerStop() final {
    {
      const base::MutexLock lock(&mu_);
      stopping_ = true;
    }
    Pump();
  }

  Progress progress() const final {
    const base::MutexLock lock(&mu_);
    return {writing_ || phase_ == Phase::kEnded, events_};
  }

  void CheckIdle(absl::Time now, absl::Duration timeout) final {
    {
      const base::MutexLock lock(&mu_);
      if (phase_ == Phase::kEnded || overdue_.has_value()) return;
      if (!AwaitsCaller() || events_ != events_seen_) {
        events_seen_ = events_;
        quiet_since_ = now;
      }
      if (now - quiet_since_ < timeout) return;
      overdue_ = IdleCall(timeout, writing_);
    }
    Pump();
  }

  void OnDone() final {
    TakeOver(this);
    scope_.Leave(this);
    self_.reset();
  }

 protected:
  // `model` is the name in the request, for the log.
  Stream(const CallInfo& info, std::string model)
      : model_(std::move(model)),
        grpc_(info.grpc),
        scope_(info, model_, CallScope::Cancellation::kTold),
        project_(info.project) {}

  const std::string& model() const { return model_; }
  // See CallScope. Call before Next returns an end.
  void SetResource(std::string name) { scope_.SetResource(std::move(name)); }

  // Returns what is due, and changes the state of the derived class as if it had been started. Must
  // not ask for a read while reading(), nor for a write or the end while writing(). Sets response_
  // before it asks for a write. Not called after it has returned an end.
  virtual Due Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Whether the stream waits for its caller, to send a message or to read one, and for nothing
  // else, so that it ends when that takes too long (Calls::EndIdle).
  virtual bool AwaitsCaller() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return writing_; }
  // Starts the work that Next asked for. Must call Pump when it has ended.
  virtual void Work() {}
  // Called when the caller has gone, before Next is asked.
  virtual void OnCallerGone() {}
  // A message was read. Not called after the end.
  virtual void Admit(const Request& /*message*/) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}
  // Called after Admit. The next read starts after this has returned. `number` counts the messages
  // from 1.
  virtual void Process(const Request& /*message*/, int64_t /*number*/) {}

  // The bytes of the latest message are counted for the project until it is released, the result is
  // destroyed, or the next message is read. Call in Admit, in Process, or before the next read.
  session::Project::Claim TakeInFlight() { return std::move(in_flight_); }
  void ReleaseInFlight() { in_flight_ = {}; }

  // The reactions to a read and to a write.
  void HasRead(bool ok) {
    TakeOver(this);
    const auto self = this->shared_from_this();
    const absl::Status parsed = ok ? AboutMessage(++messages_, Take()) : absl::OkStatus();
    const bool arrived = ok && parsed.ok();
    {
      const base::MutexLock lock(&mu_);
      if (phase_ == Phase::kEnded) return;
      ++events_;
      if (arrived) {
        overdue_.reset();
        Admit(request_.message());
      } else {
        half_closed_ = true;
        malformed_ = parsed;
        reading_ = false;
      }
    }
    if (arrived) {
      Process(request_.message(), messages_);
      const base::MutexLock lock(&mu_);
      reading_ = false;
    }
    Pump();
  }

  void HasWritten(bool ok) {
    TakeOver(this);
    const auto self = this->shared_from_this();
    if (!ok) scope_.Cancel();
    {
      const base::MutexLock lock(&mu_);
      ++events_;
      if (ok) overdue_.reset();
      writing_ = false;
    }
    Pump();
  }

  // Starts what is due. If another thread does so already, that thread asks Next again.
  void Pump() {
    const auto self = this->shared_from_this();
    Due due;
    {
      const base::MutexLock lock(&mu_);
      if (phase_ == Phase::kPumping) phase_ = Phase::kPumpingAgain;
      if (phase_ != Phase::kIdle) return;
      due = Decide();
    }
    for (;;) {
      Begin(due);
      const base::MutexLock lock(&mu_);
      if (phase_ == Phase::kPumping) phase_ = Phase::kIdle;
      if (phase_ != Phase::kPumpingAgain) return;
      due = Decide();
    }
  }

  bool reading() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return reading_; }
  bool writing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return writing_; }
  // No more messages are read: the caller has sent its last one, or one that cannot be parsed.
  bool half_closed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return half_closed_; }
  // The error of the message that could not be parsed, or OK.
  const absl::Status& malformed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return malformed_; }
  bool stopping() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; }

  mutable base::Mutex mu_;
  Incoming<Request> request_;  // owned by gRPC while a read is pending, else by HasRead
  Response response_;          // owned by gRPC while a write is pending, else guarded by mu_

 private:
  template <class S, class... Args>
  friend std::shared_ptr<S> MakeStream(Args&&... args);

  // kIdle → kPumping ⇄ kPumpingAgain (another thread has seen an event) → kEnded, and
  // kPumping → kIdle, kEnded.
  enum class Phase { kIdle, kPumping, kPumpingAgain, kEnded };

  Due Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Due due;
    if (!overdue_.has_value() || !AwaitsCaller()) {
      due = Next();
    } else if (writing_) {
      due.cancel = true;  // a stream cannot end while a write is pending
    } else {
      due.end = overdue_;
    }
    if (due.end.has_value() && overdue_.has_value()) due.end = overdue_;
    phase_ = due.end.has_value() ? Phase::kEnded : Phase::kPumping;
    reading_ = reading_ || due.read;
    writing_ = writing_ || due.write;
    return due;
  }

  // Counts and parses the message that was read.
  absl::Status Take() {
    in_flight_ = {};
    absl::Status counted = CountInFlight(project_, request_.size_bytes(), &in_flight_);
    return counted.ok() ? request_.Parse() : counted;
  }

  void Begin(const Due& due) {
    if (due.end.has_value()) {
      const grpc::Status status = scope_.End(*due.end);
      HandOver(this);
      return this->Finish(status);
    }
    HandOver(this);
    if (due.cancel) grpc_->TryCancel();
    if constexpr (!std::is_same_v<Response, NoStream>) {
      if (due.write) this->StartWrite(&response_);
    }
    if constexpr (!std::is_same_v<Request, NoStream>) {
      if (due.read) this->StartRead(&request_);
    }
    if (due.work) Work();
  }

  static absl::Status IdleCall(absl::Duration timeout, bool writing) {
    const std::string seconds = absl::StrCat(absl::ToDoubleSeconds(timeout));
    return base::ReasonError(
        absl::StatusCode::kAborted,
        absl::StrCat("the call ended, because the caller ",
                     writing ? "read no message" : "sent no message", " for ", seconds,
                     " seconds (--stream-idle-timeout of the server)"),
        {"STREAM_IDLE", {{"timeout_seconds", seconds}}});
  }

  const std::string model_;
  grpc::CallbackServerContext* const grpc_;  // gone after the end
  CallScope scope_;
  std::shared_ptr<Stream> self_;
  session::Project* const project_;  // null: its messages are not counted
  int64_t messages_ = 0;             // read so far; used by HasRead only
  session::Project::Claim in_flight_;

  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kIdle;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status malformed_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  // CheckIdle: reads and writes that have ended, how many of them it had seen when the stream began
  // to wait for the caller, and the error if the caller is overdue.
  int64_t events_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t events_seen_ ABSL_GUARDED_BY(mu_) = -1;
  absl::Time quiet_since_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> overdue_ ABSL_GUARDED_BY(mu_);
};

// Creates a stream of the type S and tells Calls::AddOpen of it. Its first event must be a call of
// Pump.
template <class S, class... Args>
std::shared_ptr<S> MakeStream(Args&&... args) {
  auto stream = std::make_shared<S>(std::forward<Args>(args)...);
  stream->self_ = stream;
  HandOver(stream->self_.get());
  stream->scope_.calls()->AddOpen(stream);
  return stream;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_STREAM_H_
