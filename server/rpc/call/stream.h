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
#include "absl/time/time.h"
#include "server/base/mutex.h"
#include "server/rpc/call/call_scope.h"
#include "server/rpc/call/calls.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"

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
  bool read = false;   // StartRead(&request_)
  bool write = false;  // StartWrite(&response_)
  bool work = false;   // Work()
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

  void OnDone() final {
    TakeOver(this);
    scope_.Leave();
    self_.reset();
  }

 protected:
  // `model` is the name in the request, for the log.
  Stream(const CallInfo& info, std::string model)
      : model_(std::move(model)), scope_(info, model_, CallScope::Cancellation::kTold) {}

  const std::string& model() const { return model_; }

  // Returns what is due, and changes the state of the derived class as if it had been started. Must
  // not ask for a read while reading(), nor for a write or the end while writing(). Sets response_
  // before it asks for a write. Not called after it has returned an end.
  virtual Due Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Starts the work that Next asked for. Must call Pump when it has ended.
  virtual void Work() {}
  // Called when the caller has gone, before Next is asked.
  virtual void OnCallerGone() {}
  // A message was read. Not called after the end.
  virtual void Admit(const Request& /*message*/) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}
  // Called after Admit. The next read starts after this has returned. `number` counts the messages
  // from 1.
  virtual void Process(const Request& /*message*/, int64_t /*number*/) {}

  // The reactions to a read and to a write.
  void HasRead(bool ok) {
    TakeOver(this);
    const auto self = this->shared_from_this();
    const absl::Status parsed = ok ? AboutMessage(++messages_, request_.Parse()) : absl::OkStatus();
    const bool arrived = ok && parsed.ok();
    {
      const base::MutexLock lock(&mu_);
      if (phase_ == Phase::kEnded) return;
      if (arrived) {
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
    Due due = Next();
    phase_ = due.end.has_value() ? Phase::kEnded : Phase::kPumping;
    reading_ = reading_ || due.read;
    writing_ = writing_ || due.write;
    return due;
  }

  void Begin(const Due& due) {
    if (due.end.has_value()) {
      const grpc::Status status = scope_.End(*due.end);
      HandOver(this);
      return this->Finish(status);
    }
    HandOver(this);
    if constexpr (!std::is_same_v<Response, NoStream>) {
      if (due.write) this->StartWrite(&response_);
    }
    if constexpr (!std::is_same_v<Request, NoStream>) {
      if (due.read) this->StartRead(&request_);
    }
    if (due.work) Work();
  }

  const std::string model_;
  CallScope scope_;
  std::shared_ptr<Stream> self_;
  int64_t messages_ = 0;  // read so far; used by HasRead only

  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kIdle;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status malformed_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

// Creates a stream of the type S. Its first event must be a call of Pump.
template <class S, class... Args>
std::shared_ptr<S> MakeStream(Args&&... args) {
  auto stream = std::make_shared<S>(std::forward<Args>(args)...);
  stream->self_ = stream;
  HandOver(stream->self_.get());
  return stream;
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_STREAM_H_
