#include "server/rpc/step_stream.h"

#include <utility>

#include "server/base/mutex.h"
#include "server/base/status.h"
#include "server/base/text.h"
#include "server/codec/names.h"
#include "server/codec/training_codec.h"
#include "server/records/project.h"
#include "server/registry/registry.h"
#include "server/rpc/call/status.h"
#include "server/rpc/handlers.h"
#include "server/session/errors.h"

namespace backprop::rpc {

StepStream* StepStream::Start(Context* context, const CallInfo& info) {
  const auto stream = MakeStream<StepStream>(context, info);
  stream->Pump();
  return stream.get();
}

void StepStream::Admit(const v1::StepStreamRequest& request) {
  const auto bytes = static_cast<int64_t>(request.ByteSizeLong());
  if (first_ == 1 && slots_.empty()) {
    SetResource(std::string(base::Cut(request.step().model(), base::kMaxLoggedBytes)));
  }
  slots_.push_back({bytes, TakeInFlight(), std::nullopt});
  unanswered_bytes_ += bytes;
}

void StepStream::Process(const v1::StepStreamRequest& request, int64_t sequence) {
  if (!request.has_step()) {
    return Answer(sequence, nullptr, base::FieldError("step", "is required"));
  }
  const v1::StepRequest& step = request.step();
  if (!step.model().empty()) model_ = step.model();
  const auto id = codec::ParseModelName("model", model_);
  if (!id.ok()) return Answer(sequence, nullptr, id.status());
  const std::string scoped = records::ScopedId(caller().project, *id);
  if (const auto resident = context_->registry->FindResident(scoped)) {
    return StartStep(*resident, step, sequence);
  }
  {
    const base::MutexLock lock(&mu_);
    loading_ = true;  // so that no message is read, and `request` stays as it is
  }
  context_->registry->Find(scoped, [this, self = shared_from_this(), &step,
                                    sequence](const registry::MaybeSession& model) {
    StartStep(model, step, sequence);
    {
      const base::MutexLock lock(&mu_);
      loading_ = false;
    }
    Pump();
  });
}

void StepStream::StartStep(const registry::MaybeSession& model, const v1::StepRequest& step,
                           int64_t sequence) {
  if (!model.ok()) return Answer(sequence, nullptr, model.status());
  auto args = DecodeStep(context_, *model, step);
  if (!args.ok()) return Answer(sequence, nullptr, args.status());
  args->cancelled = [this, self = shared_from_this()] { return cancelled(); };
  (*model)->Step(*std::move(args), [this, self = shared_from_this(), model = *model,
                                    sequence](const absl::StatusOr<records::StepOutcome>& outcome) {
    Answer(sequence, model.get(), outcome);
    Pump();
  });
}

void StepStream::Answer(int64_t sequence, const session::Session* model,
                        const absl::StatusOr<records::StepOutcome>& outcome) {
  v1::StepStreamResponse response;
  response.set_sequence(sequence);
  if (outcome.ok()) {
    codec::EncodeStep(*outcome, model->network(), response.mutable_step());
  } else {
    if (CallStats* const stats = context_->calls.stats()) stats->CountReason(outcome.status());
    *response.mutable_error() = ToMessage(outcome.status());
  }
  const base::MutexLock lock(&mu_);
  slots_[static_cast<size_t>(sequence - first_)].response = std::move(response);
}

bool StepStream::MayRead() const {
  return !reading() && !loading_ && !half_closed() && !stopping() &&
         slots_.size() < kMaxUnanswered && unanswered_bytes_ < context_->limits().max_message_bytes;
}

std::optional<absl::Status> StepStream::EndStatus() const {
  if (writing()) return std::nullopt;
  if (cancelled()) return base::CallerGone();
  if (!slots_.empty()) return std::nullopt;
  if (stopping()) return session::ShuttingDown();
  if (half_closed()) return malformed();
  return std::nullopt;
}

Due StepStream::Next() {
  if (auto end = EndStatus(); end.has_value()) return {.end = std::move(end)};
  Due due;
  if (!writing() && !slots_.empty() && slots_.front().response.has_value()) {
    response_ = *std::move(slots_.front().response);
    unanswered_bytes_ -= slots_.front().bytes;
    slots_.pop_front();
    ++first_;
    due.write = true;
  }
  due.read = MayRead();
  return due;
}

}  // namespace backprop::rpc
