#include "server/rpc/step_stream.h"

#include <utility>

#include "server/base/status.h"
#include "server/codec/training_codec.h"
#include "server/rpc/call/hand_over.h"
#include "server/rpc/call/status.h"
#include "server/rpc/handlers.h"
#include "server/session/errors.h"

namespace backprop::rpc {

std::shared_ptr<StepStream> StepStream::Start(Context* context) {
  auto stream = std::make_shared<StepStream>(context);
  stream->self_ = stream;
  context->open_calls.Add(stream);
  HandOver(stream.get());
  stream->Pump();
  return stream;
}

void StepStream::OnReadDone(bool ok) {
  TakeOver(this);
  const auto self = shared_from_this();
  const absl::Status parsed = ok ? request_.Parse() : absl::OkStatus();
  ok = ok && parsed.ok();
  int64_t sequence = 0;
  {
    const base::MutexLock lock(&mu_);
    if (finished_) return;
    if (ok) {
      const auto bytes = static_cast<int64_t>(request_.message().ByteSizeLong());
      slots_.push_back({bytes, std::nullopt});
      unanswered_bytes_ += bytes;
      sequence = first_ + static_cast<int64_t>(slots_.size()) - 1;
    } else {
      half_closed_ = true;
      last_ = AboutMessage(first_ + static_cast<int64_t>(slots_.size()), parsed);
      reading_ = false;
    }
  }
  if (ok) {
    // The next read starts only after this step was passed to its model, which keeps the order.
    Begin(request_.message(), sequence);
    const base::MutexLock lock(&mu_);
    reading_ = false;
  }
  Pump();
}

void StepStream::Begin(const v1::StepStreamRequest& request, int64_t sequence) {
  if (!request.has_step()) {
    return Answer(sequence, nullptr, base::FieldError("step", "is required"));
  }
  const v1::StepRequest& step = request.step();
  if (!step.model().empty()) model_ = step.model();
  auto work = DecodeStep(context_, step, model_);
  if (!work.ok()) return Answer(sequence, nullptr, work.status());
  work->args.cancelled = [self = shared_from_this()] { return self->cancelled(); };
  const auto model = work->model;
  model->Step(std::move(work->args), [self = shared_from_this(), model, sequence](
                                         const absl::StatusOr<records::StepOutcome>& outcome) {
    self->Answer(sequence, model.get(), outcome);
    self->Pump();
  });
}

void StepStream::Answer(int64_t sequence, const session::Session* model,
                        const absl::StatusOr<records::StepOutcome>& outcome) {
  v1::StepStreamResponse response;
  response.set_sequence(sequence);
  if (outcome.ok()) {
    codec::EncodeStep(*outcome, model->network(), response.mutable_step());
  } else {
    *response.mutable_error() = ToMessage(outcome.status());
  }
  const base::MutexLock lock(&mu_);
  slots_[static_cast<size_t>(sequence - first_)].response = std::move(response);
}

bool StepStream::MayRead() const {
  return !reading_ && !half_closed_ && !stopping_ && slots_.size() < kMaxUnanswered &&
         unanswered_bytes_ < context_->limits().max_message_bytes;
}

std::optional<absl::Status> StepStream::EndStatus() const {
  if (writing_) return std::nullopt;
  if (cancelled_) return base::CallerGone();
  if (!slots_.empty()) return std::nullopt;
  if (stopping_) return session::ShuttingDown();
  if (half_closed_) return last_;
  return std::nullopt;
}

// One thread at a time starts operations, so that none is started after Finish. A thread that
// enters in the meantime sets pump_again_ and returns; the first thread then repeats its check.
void StepStream::Pump() {
  const auto self = shared_from_this();
  {
    const base::MutexLock lock(&mu_);
    if (std::exchange(pumping_, true)) {
      pump_again_ = true;
      return;
    }
  }
  for (;;) {
    bool read = false;
    bool write = false;
    std::optional<absl::Status> end;
    {
      const base::MutexLock lock(&mu_);
      pump_again_ = false;
      end = EndStatus();
      finished_ = end.has_value();
      if (!finished_ && !writing_ && !slots_.empty() && slots_.front().response.has_value()) {
        response_ = *std::move(slots_.front().response);
        unanswered_bytes_ -= slots_.front().bytes;
        slots_.pop_front();
        ++first_;
        write = writing_ = true;
      }
      if (!finished_ && MayRead()) read = reading_ = true;
    }
    HandOver(this);
    if (end.has_value()) return End(*end);
    if (write) StartWrite(&response_);
    if (read) StartRead(&request_);
    const base::MutexLock lock(&mu_);
    if (pump_again_) continue;
    pumping_ = false;
    return;
  }
}

void StepStream::End(const absl::Status& status) {
  if (context_->observer) {
    const std::string any_model;
    context_->observer(
        {"StepStream", any_model, status.code(), status.message(), absl::Now() - begin_});
  }
  Finish(ToGrpc(status));
}

void StepStream::OnWriteDone(bool ok) {
  TakeOver(this);
  const auto self = shared_from_this();
  {
    const base::MutexLock lock(&mu_);
    writing_ = false;
    cancelled_ = cancelled_ || !ok;
  }
  Pump();
}

void StepStream::OnCancel() {
  TakeOver(this);
  const auto self = shared_from_this();
  {
    const base::MutexLock lock(&mu_);
    cancelled_ = true;
  }
  Pump();
}

void StepStream::OnServerStop() {
  {
    const base::MutexLock lock(&mu_);
    stopping_ = true;
  }
  Pump();
}

void StepStream::OnDone() {
  TakeOver(this);
  context_->calls.Leave();
  self_.reset();
}

}  // namespace backprop::rpc
