// The reactor of calls that stream the events of a run.
#ifndef BACKPROP_SERVER_RPC_RUN_STREAM_H_
#define BACKPROP_SERVER_RPC_RUN_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/codec/training_codec.h"
#include "server/records/run_events.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/status.h"
#include "server/rpc/call/unary_call.h"
#include "server/rpc/context.h"
#include "server/session/errors.h"
#include "server/session/run.h"

namespace backprop::rpc {

// Writes one event at a time, and reads the next one from the run's log when gRPC has taken it, so
// a slow reader takes the memory of one message, not of a queue. Keeps itself alive until OnDone;
// callers of its methods must hold a reference. gRPC's operations are started without the lock,
// because they may call a reaction before they return. Thread-safe.
template <class Response>
class RunStream final : public grpc::ServerWriteReactor<Response>,
                        public session::RunListener,
                        public std::enable_shared_from_this<RunStream<Response>> {
 public:
  // kOwns: the call is an owner of the run, which stops when its last owner is gone
  // (Run::AddOwner). kWatches: the end of the call does not affect the run.
  enum class Ownership { kWatches, kOwns };

  // `method` must be a literal. Attach must be called for the result.
  static std::shared_ptr<RunStream> Make(Context* context, const char* method,
                                         const std::string& model, Ownership ownership,
                                         int64_t from_sequence) {
    auto stream = std::make_shared<RunStream>(context, method, model, ownership, from_sequence);
    stream->self_ = stream;
    HandOver(stream.get());
    return stream;
  }
  RunStream(Context* context, const char* method, const std::string& model, Ownership ownership,
            int64_t from_sequence)
      : context_(context),
        method_(method),
        model_(model),
        ownership_(ownership),
        next_(std::max<int64_t>(from_sequence, 1)) {
    context_->calls.Enter();
  }

  // Starts to stream a run, or ends the call with an error. Call once.
  void Attach(absl::StatusOr<std::shared_ptr<session::Run>> run) {
    std::shared_ptr<session::Run> attached;
    bool orphaned = false;
    {
      const base::MutexLock lock(&mu_);
      if (run.ok()) {
        run_ = attached = *run;
        orphaned = cancelled_;
      } else {
        error_ = run.status();
      }
    }
    if (attached != nullptr) {
      if (ownership_ == Ownership::kOwns) {
        attached->AddOwner();
        if (orphaned) attached->DropOwner();
      }
      attached->log().Listen(this->weak_from_this());
    }
    Pump();
  }

  bool cancelled() const {
    const base::MutexLock lock(&mu_);
    return cancelled_;
  }

  void OnRunEvent() override { Pump(); }

  void OnWriteDone(bool ok) override {
    TakeOver(this);
    const auto self = this->shared_from_this();
    {
      const base::MutexLock lock(&mu_);
      writing_ = false;
      broken_ = broken_ || !ok;
    }
    Pump();
  }

  void OnCancel() override {
    TakeOver(this);
    const auto self = this->shared_from_this();
    std::shared_ptr<session::Run> owned;
    {
      const base::MutexLock lock(&mu_);
      cancelled_ = true;
      if (ownership_ == Ownership::kOwns) owned = run_;
    }
    if (owned != nullptr) owned->DropOwner();
    Pump();
  }

  void OnDone() override {
    TakeOver(this);
    context_->calls.Leave();
    self_.reset();
  }

 private:
  // Starts the next operation if none is pending and one is due.
  void Pump() {
    const auto self = this->shared_from_this();
    std::optional<absl::Status> end;
    {
      const base::MutexLock lock(&mu_);
      if (finished_ || writing_) return;
      end = EndStatus();
      if (!end.has_value()) {
        if (run_ == nullptr) return;
        // finished() must be read before the log: a finished run has its last event in the log.
        const bool run_finished = run_->finished();
        auto event = run_->log().Read(&next_);
        if (!event.has_value() && run_finished && !stop_reason_.has_value()) {
          next_ = run_->log().last_sequence();  // from_sequence is after the last event
          event = run_->log().Read(&next_);
        }
        if (event.has_value()) {
          response_.Clear();
          codec::EncodeEvent(run_->name(), run_->config(), *event, response_.mutable_event());
          if (const auto* summary = std::get_if<records::RunSummary>(&event->body)) {
            stop_reason_ = summary->stop_reason;
          }
          writing_ = true;
        } else if (stop_reason_.has_value()) {
          end = AfterLastEvent();
        } else if (const absl::Status parked = run_->parked(); !parked.ok()) {
          end = parked;
        } else {
          return;
        }
      }
      finished_ = end.has_value();
    }
    if (!end.has_value()) {
      HandOver(this);
      this->StartWrite(&response_);
      return;
    }
    if (context_->observer) {
      context_->observer({method_, model_, end->code(), end->message(), absl::Now() - begin_});
    }
    HandOver(this);
    this->Finish(ToGrpc(*end));
  }

  std::optional<absl::Status> EndStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (cancelled_ || broken_) return base::CallerGone();
    if (!error_.ok()) return error_;
    return std::nullopt;
  }

  absl::Status AfterLastEvent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (stop_reason_ == records::StopReason::kModelDeleted) return session::ModelDeleted(model_);
    if (stop_reason_ == records::StopReason::kServerShutdown) return session::ShuttingDown();
    return absl::OkStatus();
  }

  Context* const context_;
  const char* const method_;
  const std::string model_;
  const Ownership ownership_;
  const absl::Time begin_ = absl::Now();
  std::shared_ptr<RunStream> self_;

  mutable base::Mutex mu_;
  std::shared_ptr<session::Run> run_ ABSL_GUARDED_BY(mu_);
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  int64_t next_ ABSL_GUARDED_BY(mu_);
  std::optional<records::StopReason> stop_reason_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  Response response_;  // owned by gRPC while writing_, else guarded by mu_
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_RUN_STREAM_H_
