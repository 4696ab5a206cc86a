// The reactor of calls in which the caller sends many messages and gets one response.
#ifndef BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_
#define BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/incoming.h"
#include "server/rpc/call/status.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
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
  // No more messages follow. Must fill in the response and call `done` once, from any thread. May
  // also be called if the connection broke, so an upload is complete only if a message or the
  // content says so.
  virtual void End(Next done) = 0;
};

// Reads one message at a time, and the next one when the receiver has processed it, so gRPC applies
// back-pressure to a caller that sends faster. Keeps itself alive until OnDone. One thread at a
// time starts gRPC's operations. Thread-safe.
template <class Request>
class UploadStream final : public grpc::ServerReadReactor<Incoming<Request>>,
                           public OpenCall,
                           public std::enable_shared_from_this<UploadStream<Request>> {
 public:
  // `method` must be a literal.
  static std::shared_ptr<UploadStream> Start(Context* context, const char* method,
                                             std::unique_ptr<Receiver<Request>> receiver) {
    auto stream = std::make_shared<UploadStream>(context, method, std::move(receiver));
    stream->self_ = stream;
    context->open_calls.Add(stream);
    HandOver(stream.get());
    stream->Pump();
    return stream;
  }
  UploadStream(Context* context, const char* method, std::unique_ptr<Receiver<Request>> receiver)
      : context_(context), method_(method), receiver_(std::move(receiver)) {
    context_->calls.Enter();
  }

  void OnReadDone(bool ok) override {
    TakeOver(this);
    const auto self = this->shared_from_this();
    {
      const base::MutexLock lock(&mu_);
      reading_ = false;
      if (finished_) return;
      if (ok) {
        busy_ = true;
      } else {
        half_closed_ = true;
      }
    }
    if (!ok) return Pump();
    const absl::Status parsed = AboutMessage(++messages_, request_.Parse());
    if (!parsed.ok()) return Taken(parsed);
    receiver_->Take(request_.message(),
                    [self](const absl::Status& status) { self->Taken(status); });
  }

  void OnCancel() override {
    TakeOver(this);
    const auto self = this->shared_from_this();
    {
      const base::MutexLock lock(&mu_);
      cancelled_ = true;
    }
    Pump();
  }

  void OnServerStop() override {
    {
      const base::MutexLock lock(&mu_);
      stopping_ = true;
    }
    Pump();
  }

  void OnDone() override {
    TakeOver(this);
    context_->calls.Leave();
    self_.reset();
  }

 private:
  void Taken(const absl::Status& status) {
    {
      const base::MutexLock lock(&mu_);
      busy_ = false;
      if (!status.ok()) end_ = status;
    }
    Pump();
  }

  void Ended(const absl::Status& status) {
    {
      const base::MutexLock lock(&mu_);
      busy_ = false;
      end_ = status;
    }
    Pump();
  }

  enum class Action { kNothing, kRead, kEnd, kFinish };
  Action Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || busy_) return Action::kNothing;
    if (!end_.has_value() && cancelled_) end_ = base::CallerGone();
    if (!end_.has_value() && stopping_) end_ = session::ShuttingDown();
    if (end_.has_value()) {
      finished_ = true;
      return Action::kFinish;
    }
    if (half_closed_) {
      busy_ = true;
      return Action::kEnd;
    }
    if (reading_) return Action::kNothing;
    reading_ = true;
    return Action::kRead;
  }

  void Pump() {
    const auto self = this->shared_from_this();
    {
      const base::MutexLock lock(&mu_);
      if (std::exchange(pumping_, true)) {
        pump_again_ = true;
        return;
      }
    }
    for (;;) {
      Action action = Action::kNothing;
      absl::Status end;
      {
        const base::MutexLock lock(&mu_);
        pump_again_ = false;
        action = Decide();
        if (action == Action::kFinish) end = *end_;
      }
      HandOver(this);
      if (action == Action::kFinish) return Finish(end);
      if (action == Action::kRead) this->StartRead(&request_);
      if (action == Action::kEnd) {
        receiver_->End([self](const absl::Status& status) { self->Ended(status); });
      }
      const base::MutexLock lock(&mu_);
      if (pump_again_) continue;
      pumping_ = false;
      return;
    }
  }

  void Finish(const absl::Status& status) {
    if (context_->observer) {
      const std::string nothing;
      context_->observer({method_, nothing, status.code(), status.message(), absl::Now() - begin_});
    }
    grpc::ServerReadReactor<Incoming<Request>>::Finish(ToGrpc(status));
  }

  Context* const context_;
  const char* const method_;
  const std::unique_ptr<Receiver<Request>> receiver_;
  const absl::Time begin_ = absl::Now();
  std::shared_ptr<UploadStream> self_;
  int64_t messages_ = 0;       // read so far; used only by OnReadDone
  Incoming<Request> request_;  // owned by gRPC while reading_, by the receiver while busy_

  base::Mutex mu_;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // the receiver has not called back yet
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool pumping_ ABSL_GUARDED_BY(mu_) = false;
  bool pump_again_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_CALL_UPLOAD_STREAM_H_
