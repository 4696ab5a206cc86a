// Calls that stream the events of a run.
#ifndef BACKPROP_SERVER_RPC_RUN_STREAM_H_
#define BACKPROP_SERVER_RPC_RUN_STREAM_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/codec/training_codec.h"
#include "server/records/run_events.h"
#include "server/rpc/call/stream.h"
#include "server/session/errors.h"
#include "server/session/run.h"

namespace backprop::rpc {

// Writes one event at a time, and reads the next one from the run's log when gRPC has taken it, so
// a slow reader takes the memory of one message, not of a queue. The call ends with the run. When
// the server stops, the run ends.
template <class Response>
class RunStream final : public Stream<NoStream, Response>, public session::RunListener {
 public:
  // kOwns: the call is an owner of the run, which stops when its last owner is gone
  // (Run::AddOwner). kWatches: the end of the call does not affect the run.
  enum class Ownership { kWatches, kOwns };

  // Attach must be called once for the result.
  static std::shared_ptr<RunStream> Make(const CallInfo& info, const std::string& model,
                                         Ownership ownership, int64_t from_sequence) {
    return MakeStream<RunStream>(info, model, ownership, from_sequence);
  }
  RunStream(const CallInfo& info, const std::string& model, Ownership ownership,
            int64_t from_sequence)
      : Stream<NoStream, Response>(info, model),
        ownership_(ownership),
        next_(std::max<int64_t>(from_sequence, 1)) {}

  // Starts to stream a run, or ends the call with an error.
  void Attach(absl::StatusOr<std::shared_ptr<session::Run>> run) {
    const bool owns = run.ok() && ownership_ == Ownership::kOwns;
    if (owns) (*run)->AddOwner();  // before OnCallerGone can find the run
    bool orphaned = false;
    {
      const base::MutexLock lock(&this->mu_);
      if (run.ok()) {
        run_ = *run;
        orphaned = orphaned_;
      } else {
        error_ = run.status();
      }
    }
    if (orphaned) (*run)->DropOwner();
    if (run.ok()) {
      (*run)->log().Listen(std::shared_ptr<session::RunListener>(this->shared_from_this(), this));
    }
    this->Pump();
  }

  void OnRunEvent() override { this->Pump(); }
  void OnWriteDone(bool ok) override { this->HasWritten(ok); }

 private:
  void OnCallerGone() override {
    if (ownership_ != Ownership::kOwns) return;
    std::shared_ptr<session::Run> owned;
    {
      const base::MutexLock lock(&this->mu_);
      orphaned_ = true;
      owned = run_;
    }
    if (owned != nullptr) owned->DropOwner();
  }

  // A caller that reads nothing costs nothing, and may want only the end.
  bool AwaitsCaller() const override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) { return false; }

  Due Next() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (this->writing()) return {};
    if (this->cancelled()) return {.end = base::CallerGone()};
    if (!error_.ok()) return {.end = error_};
    if (run_ == nullptr) return {};
    if (auto event = NextEvent(); event.has_value()) {
      this->response_.Clear();
      codec::EncodeEvent(run_->name(), run_->config(), *event, this->response_.mutable_event());
      if (const auto* summary = std::get_if<records::RunSummary>(&event->body)) {
        stop_reason_ = summary->stop_reason;
      }
      return {.write = true};
    }
    if (stop_reason_.has_value()) return {.end = AfterLastEvent()};
    if (absl::Status parked = run_->parked(); !parked.ok()) return {.end = std::move(parked)};
    return {};
  }

  std::optional<records::RunEvent> NextEvent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    // finished() must be read before the log: a finished run has its last event in the log.
    const bool run_finished = run_->finished();
    auto event = run_->log().Read(&next_);
    if (!event.has_value() && run_finished && !stop_reason_.has_value()) {
      next_ = run_->log().last_sequence();  // from_sequence is after the last event
      event = run_->log().Read(&next_);
    }
    return event;
  }

  absl::Status AfterLastEvent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(this->mu_) {
    if (stop_reason_ == records::StopReason::kModelDeleted) {
      return session::ModelDeleted(this->model());
    }
    if (stop_reason_ == records::StopReason::kServerShutdown) return session::ShuttingDown();
    return absl::OkStatus();
  }

  const Ownership ownership_;
  std::shared_ptr<session::Run> run_ ABSL_GUARDED_BY(this->mu_);  // null until Attach
  bool orphaned_ ABSL_GUARDED_BY(this->mu_) = false;              // the owning caller has gone
  absl::Status error_ ABSL_GUARDED_BY(this->mu_);
  int64_t next_ ABSL_GUARDED_BY(this->mu_);  // sequence number of the next event
  std::optional<records::StopReason> stop_reason_ ABSL_GUARDED_BY(this->mu_);
};

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_RUN_STREAM_H_
