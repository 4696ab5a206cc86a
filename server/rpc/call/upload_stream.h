// Calls in which the caller sends many messages and gets one response.
#ifndef BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/rpc/call/stream.h"
#include "server/session/errors.h"

namespace backprop::rpc {

// Processes the messages of one call. The stream calls one method at a time and waits for its
// callback.
template <class Request>
class Receiver {
 public:
  using Next = absl::AnyInvocable<void(const absl::Status&)>;

  virtual ~Receiver() = default;
  // Processes the next message. Must call `next` once, from any thread; `message` lives until then.
  // An error ends the call.
  virtual void Take(const Request& message, Next next) = 0;
  // The name of what the call creates, for the logs; empty if it is not known yet. Not called at
  // the same time as another method.
  virtual std::string resource() const { return {}; }
  // No more messages follow. Must fill in the response and call `done` once, from any thread. May
  // also be called if the connection broke, so an upload is complete only if a message or the
  // content says so.
  virtual void End(Next done) = 0;
};

// Reads one message at a time, and the next one when the receiver has processed it, so gRPC applies
// back-pressure to a caller that sends faster. A server that stops ends the call when the receiver
// has processed its message. The call ends with ABORTED when the caller sends no message for the
// idle timeout (Calls::EndIdle).
template <class Request>
class UploadStream final : public Stream<Request, NoStream> {
 public:
  static UploadStream* Start(const CallInfo& info, std::unique_ptr<Receiver<Request>> receiver) {
    const auto stream = MakeStream<UploadStream>(info, std::move(receiver));
    stream->Pump();
    return stream.get();
  }
  UploadStream(const CallInfo& info, std::unique_ptr<Receiver<Request>> receiver)
      : Stream<Request, NoStream>(info, ""), receiver_(std::move(receiver)) {}

  void OnReadDone(bool ok) override { this->HasRead(ok); }

 private:
  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (busy_) return {};
    if (!end_.has_value()) end_ = Interruption();
    if (end_.has_value()) return {.end = end_};
    if (this->half_closed()) {
      busy_ = true;
      return {.work = true};
    }
    return {.read = !this->reading()};
  }

  bool AwaitsCaller() const override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    return this->reading() && !busy_;
  }

  std::optional<absl::Status> Interruption() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (!this->malformed().ok()) return this->malformed();
    if (this->cancelled()) return base::CallerGone();
    if (this->stopping()) return session::ShuttingDown();
    return std::nullopt;
  }

  void Admit(const Request& /*message*/) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    busy_ = true;
  }

  void Process(const Request& message, int64_t /*number*/) override {
    receiver_->Take(message, [this, self = this->shared_from_this()](const absl::Status& status) {
      Continue(status.ok() ? std::nullopt : std::make_optional(status));
    });
  }

  void Work() override {
    receiver_->End(
        [this, self = this->shared_from_this()](const absl::Status& status) { Continue(status); });
  }

  // The receiver has called back. With `end` the call ends.
  void Continue(std::optional<absl::Status> end) {
    this->SetResource(receiver_->resource());
    this->ReleaseInFlight();
    {
      const base::MutexLock lock(&this->mu_);
      busy_ = false;
      end_ = std::move(end);
    }
    this->Pump();
  }

  const std::unique_ptr<Receiver<Request>> receiver_;
  // The receiver has not called back yet.
  bool busy_ ABSL_GUARDED_BY(this->mu_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(this->mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_
